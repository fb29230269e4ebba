/** Words of the service about cameras and rules in the user's language; what is not known stays as it was said. */

import { i18n } from "./index";

const slug = (words: string) => words.trim().toLowerCase().replaceAll(/\s+/g, "-");
const known = (key: string, otherwise: string) => (i18n.global.te(key) ? i18n.global.t(key) : otherwise);

/** A fault begins with its cause ("timed out: no answer within 5 s"), or comes with it apart. */
export function faultText(fault: string, cause = ""): string {
  for (const candidate of [cause, fault, fault.split(/[:;,(]/)[0] ?? ""]) {
    const word = slug(candidate);
    if (/^[a-z-]+$/.test(word) && i18n.global.te(`cameras.cause.${word}`))
      return i18n.global.t(`cameras.cause.${word}`);
  }
  return fault;
}

export const ruleKindName = (kind: string) => known(`rules.kinds.${kind}`, kind);
export const parameterName = (name: string) => known(`rules.parameters.${name}`, name.replaceAll("_", " "));
export const unitName = (unit: string) => known(`rules.units.${slug(unit)}`, unit);
