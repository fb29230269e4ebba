/** Why a picture is encoded and what an outgoing one is made of, in the user's language; the unknown stays. */

import { i18n } from "./index";

type Words = [pattern: RegExp, key: string, ...names: string[]];

/** The service's own words, as its plan of pictures writes them. */
const REASONS: Words[] = [
  [/^mosaic$/, "mosaic"],
  [/^full screen$/, "fullScreen"],
  [/^slides$/, "slides"],
  [/^slides in the main picture$/, "slidesInMain"],
  [/^waits outside$/, "waits"],
  [/^programme(?:, slides)?$/, "programme"],
  [/^no picture yet$/, "noPicture"],
  [/^closing$/, "closing"],
  [/^the banner is drawn on every picture$/, "banner"],
  [/^source is (\S+), receiver takes (\S+)$/, "codec", "source", "receiver"],
  [/^source's parameters are not known yet$/, "unknown"],
  [/^it is not known yet whether .*order of showing$/, "unknown"],
  [/^source's frames are not in the order of showing/, "order"],
  [/^source's H\.264 profile (\S+) is above/, "profile", "profile"],
  [/^receiver takes no pictures of (\S+)$/, "size", "size"],
  [/^source's (\d+x\d+) is above the receiver's level$/, "level", "size"],
  [/^source's (\d+) kbit\/s do not fit (\d+)/, "rate", "source", "receiver"],
  [/^receiver takes single NAL units only$/, "nal"],
  [/^(\d+) of \d+ rungs lower, .* keeps (\d+)% .* its limit is (\d+)%$/, "busy", "rungs", "share", "limit"],
];

function reasonOf(words: string): string {
  const slides = /^slides: (.+)$/.exec(words)?.[1];
  if (slides !== undefined) return `${i18n.global.t("operate.why.slides")} · ${reasonOf(slides)}`;
  for (const [pattern, key, ...names] of REASONS) {
    const match = pattern.exec(words);
    if (match === null) continue;
    const values = Object.fromEntries(names.map((name, n) => [name, match[n + 1] ?? ""]));
    return i18n.global.t(`operate.why.${key}`, values);
  }
  return words;
}

/** Several reasons stand beside each other: an encoder may serve receivers that need it for different ones. */
export const reasonText = (reason: string) =>
  reason
    .split("; ")
    .map(reasonOf)
    .join(i18n.global.locale.value === "zh" ? "；" : "; ");

/** What an outgoing picture is: somebody's as it came, or what is composed, with the encoder's figures. */
export function sourceText(source: string, nameOf: (participantId: string) => string): string {
  const { t } = i18n.global;
  const [content = "", ...figures] = source.split(" ");
  const passed = /^pass-through:(?:slides:)?(.+)$/.exec(content)?.[1];
  if (passed !== undefined) {
    const key = content.includes(":slides:") ? "operate.leg.slidesPassed" : "operate.leg.passThrough";
    return t(key, { name: nameOf(passed) });
  }
  const slides = /^slides:([^+]+)/.exec(content)?.[1];
  const whole = /^full-screen:(.+)$/.exec(content)?.[1];
  const words =
    slides !== undefined
      ? t("operate.leg.slidesOf", { name: nameOf(slides) })
      : whole !== undefined
        ? t("operate.fullScreenOf", { name: nameOf(whole) })
        : content === "mosaic" || content === "page"
          ? t("operate.mosaic")
          : content;
  return [words, ...figures].join(" ");
}
