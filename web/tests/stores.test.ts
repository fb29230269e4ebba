import { expect, test } from "vitest";

import type { Leg, Report } from "@/api/report";
import type { Site } from "@/api/sites";
import { detailText } from "@/stores/auditTrail";
import { bitsOfMegabits, formatPercent, formatRate, lossOf } from "@/stores/format";
import { frameRates, qualityByParticipant } from "@/stores/legs";
import { coalesced } from "@/stores/rows";
import { permissionsOf, rolesConflict } from "@/stores/session";
import { buildSiteTree } from "@/stores/siteTree";

const site = (id: string, parent_id: string | null, name = id): Site => ({
  id,
  parent_id,
  name,
  kind: "administration",
  conference_budget_bps: 3e6,
  access_capacity_bps: 4e6,
});

test("the tree knows order, depth, path and uplink", () => {
  const link = { id: "l", upper_site_id: "gx", lower_site_id: "nn", capacity_bps: 5e7, carried_bps: 1e6 };
  const tree = buildSiteTree([site("nn", "gx", "南宁"), site("cn", null, "国家"), site("gx", "cn", "广西")], [link]);
  expect(tree.ordered.map((node) => [node.id, node.depth])).toEqual([
    ["cn", 0],
    ["gx", 1],
    ["nn", 2],
  ]);
  expect(tree.byId.get("nn")).toMatchObject({ path: ["国家", "广西", "南宁"], uplink: link });
});

test("a jurisdiction's top site stands at the root although its parent is not visible", () => {
  const tree = buildSiteTree([site("nn", "gx"), site("bin", "nn")]);
  expect(tree.roots.map((node) => node.id)).toEqual(["nn"]);
});

test("a loop in the rows loses no site and ends", () => {
  const tree = buildSiteTree([site("a", "b"), site("b", "a"), site("c", "c")]);
  expect(tree.ordered.map((node) => node.id).sort()).toEqual(["a", "b", "c"]);
});

test("each of the three powers sees only its own pages", () => {
  expect([...permissionsOf(["security-admin"])]).toEqual(["users", "sites"]);
  expect([...permissionsOf(["auditor"])]).toEqual(["audit"]);
  expect(permissionsOf(["system-admin"]).has("operate")).toBe(false);
  expect([...permissionsOf(["guest"])]).toEqual(["join"]);
  expect(permissionsOf(["operator"]).has("operate")).toBe(true);
  expect(permissionsOf(["something-new"]).size).toBe(0);
});

test("no power beside another role", () => {
  expect(rolesConflict(["auditor"])).toBe(false);
  expect(rolesConflict(["operator", "monitor"])).toBe(false);
  expect(rolesConflict(["auditor", "operator"])).toBe(true);
  expect(rolesConflict(["auditor", "system-admin"])).toBe(true);
});

test.each([
  [0, "0"],
  [64_000, "64 kbit/s"],
  [999_499, "999 kbit/s"],
  [999_600, "1 Mbit/s"],
  [2_854_000, "2.85 Mbit/s"],
  [3_000_000, "3 Mbit/s"],
  [200_000_000, "200 Mbit/s"],
  [1_000_000_000, "1 Gbit/s"],
])("%d bit/s reads %s", (bits, text) => expect(formatRate(bits)).toBe(text));

test("loss is of all that should have come", () => {
  expect(lossOf(90, 10)).toBe(0.1);
  expect(lossOf(0, 0)).toBeNull();
  expect(lossOf(100, -3)).toBe(0); // duplicates make RTCP's count negative
  expect(formatPercent(0.0123)).toBe("1.2 %");
  expect(formatPercent(0)).toBe("0 %");
  expect(formatPercent(null)).toBe("–");
});

test.each([
  ["2.5", 2_500_000],
  [" 2,5 ", 2_500_000],
  ["0", null],
  ["-1", null],
  ["abc", null],
  ["", null],
])("a person typing %j Mbit/s means %s", (text, bits) => expect(bitsOfMegabits(text)).toBe(bits));

const leg = (change: Partial<Leg>): Leg => ({
  participant_id: "p",
  kind: "video",
  outgoing: false,
  codec: "H264",
  bitrate_bps: 1e6,
  packets: 100,
  lost: 0,
  jitter_ms: 1,
  round_trip_ms: null,
  frames: 0,
  width: 1280,
  height: 720,
  source: "",
  granted_bps: 0,
  held: false,
  level_dbov: null,
  freezes: 0,
  frozen_seconds: 0,
  ...change,
});
const report = (legs: Leg[], wires: Report["wires"] = []): Report => ({
  conference_id: "c",
  worker_pid: 1,
  legs,
  encoders: [],
  wires,
  speakers: [],
  late_ticks: 0,
});

test("frame rates come from two reports, and a new worker's counters tell nothing", () => {
  const before = { report: report([leg({ frames: 100 }), leg({ frames: 500, outgoing: true })]), at: 1000 };
  const now = { report: report([leg({ frames: 150 }), leg({ frames: 10, outgoing: true })]), at: 3000 };
  const rates = frameRates(before, now);
  expect(rates.get(now.report.legs[0]!)).toBe(25);
  expect(rates.has(now.report.legs[1]!)).toBe(false);
  expect(frameRates(null, now).size).toBe(0);
});

test("a participant's quality: sums of rates, worst of losses, wire in bits", () => {
  const legs = [
    leg({ packets: 90, lost: 10, round_trip_ms: 30 }),
    leg({
      kind: "audio",
      codec: "opus",
      bitrate_bps: 64_000,
      packets: 50,
      lost: 0,
      jitter_ms: 9,
      level_dbov: -21,
      width: 0,
      height: 0,
    }),
    leg({ outgoing: true, bitrate_bps: 2e6 }),
  ];
  const wire = {
    participant_id: "p",
    sent_bytes: 0,
    received_bytes: 0,
    sent_last_second: 250_000,
    received_last_second: 125_000,
  };
  const quality = qualityByParticipant(report(legs, [wire]), new Map()).get("p")!;
  expect(quality.from).toMatchObject({ rateBps: 1_064_000, loss: 0.1, jitterMs: 9, width: 1280, codec: "H264" });
  expect(quality.to?.rateBps).toBe(2e6);
  expect(quality).toMatchObject({ levelDbov: -21, roundTripMs: 30, wireFromBps: 1e6, wireToBps: 2e6 });
});

test("reads asked for during a read are answered by exactly one more", async () => {
  let runs = 0;
  let finish: () => void = () => undefined;
  const refresh = coalesced(() => {
    runs += 1;
    return new Promise<void>((resolve) => (finish = resolve));
  });
  const first = refresh();
  void refresh();
  void refresh();
  finish();
  await Promise.resolve();
  await Promise.resolve();
  expect(runs).toBe(2);
  finish();
  await first;
  expect(runs).toBe(2);
});

test("audit details read the same as an object and as the text that was hashed", () => {
  const text = 'roles: ["auditor"], from: 10.0.0.1';
  expect(detailText({ roles: ["auditor"], from: "10.0.0.1" })).toBe(text);
  expect(detailText('{"roles":["auditor"],"from":"10.0.0.1"}')).toBe(text);
  expect(detailText("plain")).toBe("plain");
  expect(detailText(null)).toBe("");
});
