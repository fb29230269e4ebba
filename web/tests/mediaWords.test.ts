import "vue"; // before there is a document: it would ask more of one than the language needs
import { afterEach, beforeEach, expect, test, vi } from "vitest";

beforeEach(() => vi.stubGlobal("document", { documentElement: { lang: "" }, title: "" }));
afterEach(() => vi.unstubAllGlobals());

const words = async (language: "zh" | "en") => {
  const { setLanguage } = await import("@/i18n");
  setLanguage(language);
  return import("@/i18n/mediaWords");
};
const nameOf = (id: string) => ({ a1: "南宁市" })[id] ?? id;

test("an encoder's reasons are said in the language of the page", async () => {
  const { reasonText } = await words("zh");
  expect(reasonText("mosaic")).toBe("合成多画面");
  expect(reasonText("source is H264, receiver takes H263; receiver takes single NAL units only")).toBe(
    "来源为 H264，接收方只收 H263；接收方只收单个 NAL 单元",
  );
  expect(reasonText("slides: source's 3000 kbit/s do not fit 1400")).toBe(
    "共享画面 · 来源 3000 kbit/s，接收方只有 1400 kbit/s",
  );
  expect(reasonText("mosaic; 2 of 4 rungs lower, this worker keeps 91% of the processors busy, its limit is 85%")).toBe(
    "合成多画面；处理器繁忙（已用 91%，上限 85%），画质降低 2 档",
  );
});

test("what is not known stays as it was said", async () => {
  const { reasonText, sourceText } = await words("en");
  expect(reasonText("a reason of next year; mosaic")).toBe("a reason of next year; a mosaic is composed");
  expect(sourceText("hologram H264 1x1@1 1k", nameOf)).toBe("hologram H264 1x1@1 1k");
  expect(sourceText("", nameOf)).toBe("");
});

test("sources name people, not their ids", async () => {
  const { sourceText } = await words("zh");
  expect(sourceText("pass-through:a1", nameOf)).toBe("直通：南宁市");
  expect(sourceText("pass-through:slides:a1", nameOf)).toBe("直通共享画面：南宁市");
  expect(sourceText("full-screen:a1 H264 640x360@25 700k", nameOf)).toBe("全屏：南宁市 H264 640x360@25 700k");
  expect(sourceText("slides:a1+speaker H264 640x360@25 700k", nameOf)).toBe("共享画面：南宁市 H264 640x360@25 700k");
  expect(sourceText("mosaic H264 848x480@25 1000k", nameOf)).toBe("多画面 H264 848x480@25 1000k");
});
