import { expect, test, vi } from "vitest";

import { queryOf } from "@/api/http";
import type { Camera } from "@/api/cameras";
import type { Recording } from "@/api/recordings";
import type { Point } from "@/api/rules";
import type { Violation } from "@/api/violations";
import { momentOf, timeOf } from "@/media/recordingPlayer";
import { cameraRows, chosenCameras } from "@/stores/cameraTree";
import { dateOf, dayOf, recordedFrom, recordedSeconds, stretches } from "@/stores/dayline";
import { clockOf, formatBytes, formatDuration } from "@/stores/format";
import { crossesItself, inserted, MAX_POINTS, middles, moved, removed, shifted } from "@/stores/polygon";
import { permissionsOf } from "@/stores/session";
import { buildSiteTree } from "@/stores/siteTree";
import { merged } from "@/stores/violations";

// --- cameras

const site = (id: string, parent_id: string | null) => ({
  id,
  parent_id,
  name: id,
  kind: "administration",
  conference_budget_bps: 1,
  access_capacity_bps: 1,
});
const tree = buildSiteTree([site("gx", null), site("nn", "gx"), site("mine", "nn"), site("lz", "gx")]);
const camera = (id: string, site_id: string) => ({ id, name: `camera ${id}`, site_id, site_name: site_id }) as Camera;
const cameras = [camera("a", "mine"), camera("b", "lz"), camera("c", "nn"), camera("d", "elsewhere")];

test("the tree counts cameras at and below a site and shows no site without any", () => {
  const rows = cameraRows(cameras, tree, new Set());
  expect(rows.map((row) => ("site" in row ? `${row.site.id}:${row.count}` : row.camera.id))).toEqual([
    "gx:3",
    "lz:1",
    "b",
    "nn:2",
    "c",
    "mine:1",
    "a",
    "d",
  ]);
  expect(cameraRows([camera("a", "mine")], tree, new Set(["nn"])).map((row) => row.key)).toEqual([
    "site:gx",
    "site:nn",
  ]);
});

test("a site narrows the wall to its subtree, words to what they are in", () => {
  const ids = (where: string | null, words: string) => chosenCameras(cameras, tree, where, words).map((one) => one.id);
  expect(ids(null, "")).toEqual(["b", "c", "a", "d"]);
  expect(ids("nn", "")).toEqual(["c", "a"]);
  expect(ids("nn", " MINE ")).toEqual(["a"]);
  expect(ids("unknown", "")).toEqual([]);
});

test("faults are told in the language of the page where their cause is known", async () => {
  vi.stubGlobal("document", { documentElement: {} });
  const { faultText, parameterName, ruleKindName } = await import("@/i18n/cameraWords");
  const { setLanguage } = await import("@/i18n");
  setLanguage("en");
  expect(faultText("timed out: 10.1.2.3:554 did not answer")).toBe("The camera does not answer");
  expect(faultText("10.1.2.3 answered 401", "wrong password")).toBe("Wrong user name or password");
  expect(faultText("something quite new")).toBe("something quite new");
  expect(faultText("")).toBe("");
  expect(ruleKindName("helmet")).toBe("helmet");
  expect(parameterName("new_one")).toBe("new one");
  setLanguage("zh");
  expect(faultText("wrong password")).toBe("用户名或密码不正确");
  vi.unstubAllGlobals();
});

test("who sees which pages", () => {
  expect(permissionsOf(["monitor"]).has("violations")).toBe(true);
  expect(permissionsOf(["monitor"]).has("broadcasts")).toBe(false);
  expect(permissionsOf(["operator"]).has("violations")).toBe(false);
  expect(permissionsOf(["operator"]).has("export-recordings")).toBe(false);
  expect(permissionsOf(["system-admin"]).has("watch-cameras")).toBe(false);
  expect(permissionsOf(["system-admin"]).has("edit-cameras")).toBe(true);
  expect(permissionsOf(["viewer"]).has("cameras")).toBe(false);
});

// --- zones

const square: Point[] = [
  [0.2, 0.2],
  [0.6, 0.2],
  [0.6, 0.6],
  [0.2, 0.6],
];

test("points stay within the picture", () => {
  expect(moved(square, 1, [1.4, -3])[1]).toEqual([1, 0]);
  expect(inserted(square, 3, [0.1, 0.4])[4]).toEqual([0.1, 0.4]);
  expect(removed(square, 0)).toHaveLength(3);
  expect(middles(square)[3]).toEqual([0.2, 0.4]);
});

test("a zone moved against the edge keeps its shape", () => {
  const right = shifted(square, 5, 0);
  expect(right).toEqual([
    [0.6, 0.2],
    [1, 0.2],
    [1, 0.6],
    [0.6, 0.6],
  ]);
  expect(shifted(square, 0, -5)[0]).toEqual([0.2, 0]);
});

test("a zone has an end to its points", () => {
  let zone = square;
  for (let n = 0; n < 100; n += 1) zone = inserted(zone, 0, [n / 100, 0.5]);
  expect(zone).toHaveLength(MAX_POINTS);
});

test("a zone whose sides cross is seen as such", () => {
  expect(crossesItself(square)).toBe(false);
  expect(crossesItself([square[0]!, square[2]!, square[1]!, square[3]!])).toBe(true);
  expect(crossesItself(square.slice(0, 2))).toBe(false);
});

// --- violations

const violation = (id: string, started_at: string, version = 1) => ({ id, started_at, version }) as Violation;

test("the newest stands first, and old news of a row does not undo newer", () => {
  const rows = [violation("a", "2026-03-01T10:00:00Z", 3), violation("b", "2026-03-01T09:00:00Z")];
  const next = merged(rows, [violation("a", "2026-03-01T10:00:00Z", 2), violation("c", "2026-03-01T11:00:00Z")]);
  expect(next.map((row) => `${row.id}${row.version}`)).toEqual(["c1", "a3", "b1"]);
});

// --- recordings

const file = (started_at: string, ended_at: string | null, state = "finished") =>
  ({ started_at, ended_at, state, seconds: 60 }) as Recording;
const at = (time: string) => Date.parse(`2026-03-01T${time}Z`);

test("files that follow one another are one stretch, a gap parts them, a lost file is none", () => {
  const spans = stretches(
    [
      file("2026-03-01T08:01:00Z", "2026-03-01T08:02:00Z"),
      file("2026-03-01T08:00:00Z", "2026-03-01T08:00:59Z"),
      file("2026-03-01T08:05:00Z", null, "open"),
      file("2026-03-01T07:00:00Z", "2026-03-01T07:01:00Z", "lost"),
    ],
    at("08:05:30"),
  );
  expect(spans).toEqual([
    { from: at("08:00:00"), to: at("08:02:00") },
    { from: at("08:05:00"), to: at("08:05:30") },
  ]);
  expect(recordedFrom(spans, at("08:01:00"))).toBe(at("08:01:00"));
  expect(recordedFrom(spans, at("08:03:00"))).toBe(at("08:05:00"));
  expect(recordedFrom(spans, at("09:00:00"))).toBeNull();
  expect(recordedSeconds(spans, { from: at("08:01:30"), to: at("09:00:00") })).toBe(60);
});

test("a day is from one local midnight to the next", () => {
  const day = dayOf("2026-03-01");
  expect(dateOf(day.from)).toBe("2026-03-01");
  expect(dateOf(day.to)).toBe("2026-03-02");
  expect(new Date(day.to).getHours()).toBe(0);
});

test("the clock and the playlist's time agree, and a gap leads to what comes next", () => {
  const fragment = (start: number, programDateTime: number | null) => ({ start, duration: 2, programDateTime });
  const details = {
    fragments: [fragment(0, 10_000), fragment(2, 12_000), fragment(4, 100_000)],
  } as unknown as Parameters<typeof timeOf>[0];
  expect(timeOf(details, 12_500)).toBe(2.5);
  expect(timeOf(details, 50_000)).toBe(4);
  expect(timeOf(details, 1_000)).toBe(0);
  expect(timeOf(details, 200_000)).toBeNull();
  expect(momentOf(details, 5)).toBe(101_000);
  expect(momentOf(details, 1)).toBe(11_000);
});

// --- words

test.each([
  ["8", "08:00"],
  ["0805", "08:05"],
  ["8:5", "08:05"],
  ["23：59", "23:59"],
  ["24:00", "24:00"],
  ["24:01", null],
  ["8:60", null],
  ["soon", null],
])("a person typing %j means %s o'clock", (text, time) => expect(clockOf(text, true)).toBe(time));

test("no day begins at 24:00", () => expect(clockOf("24:00", false)).toBeNull());

test("bytes and durations as people read them", () => {
  expect(formatBytes(1_350_000_000)).toBe("1.4 GB");
  expect(formatBytes(999)).toBe("999 B");
  expect(formatBytes(0)).toBe("0");
  expect(formatDuration(62)).toBe("1:02");
  expect(formatDuration(3_723)).toBe("1:02:03");
});

test("empty filters are not sent", () => {
  expect(queryOf({ state: "", kind: null, limit: 5, from: undefined })).toBe("?limit=5");
  expect(queryOf({ state: "" })).toBe("");
});
