import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createI18n } from "vue-i18n";

import { en } from "@/i18n/en";
import { zh } from "@/i18n/zh";

type Tree = { [key: string]: string | Tree };

function flat(tree: Tree, prefix = ""): Map<string, string> {
  return new Map(
    Object.entries(tree).flatMap(([key, value]) =>
      typeof value === "string" ? [[prefix + key, value] as const] : [...flat(value, `${prefix}${key}.`)],
    ),
  );
}

const languages = { zh: flat(zh), en: flat(en) };
const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!).sort();

test("both languages have the same texts with the same placeholders", () => {
  expect([...languages.en.keys()].sort()).toEqual([...languages.zh.keys()].sort());
  for (const [key, text] of languages.zh) {
    expect(placeholders(languages.en.get(key)!), key).toEqual(placeholders(text));
  }
});

test("every text is filled in and comes out as written, with its placeholders filled", () => {
  const { global } = createI18n({ legacy: false, locale: "zh", messages: { zh, en } });
  for (const locale of ["zh", "en"] as const) {
    global.locale.value = locale;
    for (const [key, text] of languages[locale]) {
      expect(text.trim(), key).not.toBe("");
      const values = Object.fromEntries(placeholders(text).map((name) => [name, `<${name}>`]));
      const expected = text.replaceAll("{'@'}", "@").replaceAll(/\{(\w+)\}/g, "<$1>");
      expect(global.t(key, values), key).toBe(expected);
    }
  }
});

test("English texts have no Chinese left, Chinese texts are Chinese", () => {
  for (const [key, text] of languages.en) expect(text, key).not.toMatch(/[\u4e00-\u9fff]/);
  for (const [key, text] of languages.zh) {
    if (key !== "common.mbits") expect(text, key).toMatch(/[\u4e00-\u9fff]/);
  }
});

test("every literal key that the pages use exists", () => {
  const root = new URL("../src/", import.meta.url);
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => /\.(vue|ts)$/.test(name));
  const used = files.flatMap((name) =>
    [...readFileSync(new URL(name, root), "utf8").matchAll(/\bt\(\s*"([\w.-]+)"/g)].map((match) => match[1]!),
  );
  expect(used.length).toBeGreaterThan(100);
  expect(used.filter((key) => !languages.zh.has(key))).toEqual([]);
});

test("no page has Chinese words of its own beside the translations", () => {
  const root = new URL("../src/", import.meta.url);
  const pages = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".vue"));
  for (const name of pages) {
    const template = /<template>([\s\S]*)<\/template>/.exec(readFileSync(new URL(name, root), "utf8"))?.[1] ?? "";
    expect(template, name).not.toMatch(/[\u4e00-\u9fff]/);
  }
});
