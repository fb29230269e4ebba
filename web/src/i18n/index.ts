import { computed, watch } from "vue";
import { createI18n } from "vue-i18n";

import { remembered } from "@/stores/remembered";

import { en } from "./en";
import { zh, type Messages } from "./zh";

export type Language = "zh" | "en";
export const LANGUAGES: { code: Language; name: string; tag: string }[] = [
  { code: "zh", name: "中文", tag: "zh-CN" },
  { code: "en", name: "English", tag: "en" },
];

const kept = remembered<Language>("anshi.language", "zh");
const initial: Language = kept.value === "en" ? "en" : "zh";

export const i18n = createI18n<[Messages], Language, false>({
  legacy: false,
  locale: initial,
  fallbackLocale: "zh",
  messages: { zh, en },
});

/** The BCP 47 tag of the language in use, for Intl and the document. */
export const languageTag = computed(() => (i18n.global.locale.value === "en" ? "en" : "zh-CN"));

watch(
  i18n.global.locale,
  (language) => {
    kept.value = language;
    document.documentElement.lang = languageTag.value;
    document.title = i18n.global.t("app.name");
  },
  { immediate: true },
);

export function setLanguage(language: Language): void {
  i18n.global.locale.value = language;
}
