import { expect, test } from "vitest";

import { ApiProblem } from "@/api/problem";
import type { Schedule } from "@/api/schedules";
import { faultsOf, formOf, newForm, newSchedule, scheduleChange } from "@/stores/scheduleForm";
import { formatSpan, nextHalfHour, zoneName } from "@/stores/times";

const NOW = Date.parse("2026-11-23T02:00:00Z");
const schedule: Schedule = {
  id: "s1",
  title: "调度例会",
  host_site_id: "gx",
  number: "8001",
  has_pin: true,
  starts_at: "2026-11-24T01:30:00Z",
  duration_minutes: 90,
  repeat: "weekly",
  participants: [{ address: null, site_id: "nanning", name: null, on_screen: false }],
  auto_record: false,
  auto_dial: true,
  ends_by_itself: true,
  redials: 3,
  lobby: "guests",
  state: "waiting",
  detail: "",
  conference_id: null,
  created_by: "operator",
  created_at: "2026-11-23T00:00:00Z",
  version: 4,
};

test("what is not changed is not sent, but for the version that was looked at", () => {
  expect(scheduleChange(formOf(schedule), schedule)).toEqual({ version: 4 });
});

test("a change names its fields; a PIN is kept, replaced or taken away", () => {
  const form = { ...formOf(schedule), title: " 月度例会 ", minutes: "120" };
  expect(scheduleChange(form, schedule)).toEqual({ title: "月度例会", duration_minutes: 120, version: 4 });
  expect(scheduleChange({ ...formOf(schedule), pin: "4321" }, schedule)).toEqual({ pin: "4321", version: 4 });
  expect(scheduleChange({ ...formOf(schedule), dropPin: true }, schedule)).toEqual({ pin: null, version: 4 });
});

test("a template has no start and is not repeated", () => {
  const change = scheduleChange({ ...formOf(schedule), template: true }, schedule);
  expect(change).toEqual({ starts_at: null, repeat: "none", version: 4 });
});

test("a meeting after a template has its values, a start and no secret", () => {
  const form = newForm({ ...schedule, starts_at: null, state: "template" });
  expect(form).toMatchObject({ title: "调度例会", minutes: "90", template: false, pin: "", number: "8001" });
  expect(form.start!.getTime()).toBeGreaterThan(Date.now());
  const body = newSchedule({ ...form, host: "" });
  expect(body.participants).toEqual(schedule.participants);
  expect(body.lobby).toBe("guests");
  expect(body).not.toHaveProperty("pin");
  expect(body).not.toHaveProperty("host_site_id");
});

test("each field says what is wrong with it", () => {
  const form = { ...formOf(schedule), title: " ", minutes: "29", number: "12", pin: "abc", redials: "11" };
  form.start = new Date(NOW - 120_000);
  expect(Object.fromEntries(faultsOf(form, null, NOW))).toEqual({
    title: "missing",
    start: "past",
    minutes: "length",
    number: "number",
    pin: "pin",
    redials: "redials",
  });
  expect(faultsOf({ ...formOf(schedule), start: null }, null, NOW).get("start")).toBe("missing");
  expect(faultsOf(formOf(schedule), null, NOW).size).toBe(0);
});

test.each(["", "1.5", "-30", "90 min", "1441"])("%j is no length", (minutes) => {
  expect(faultsOf({ ...formOf(schedule), minutes }, null, NOW).get("minutes")).toBe("length");
});

test("the start of a meeting that was held is no mistake as long as it stays", () => {
  const held = { ...schedule, starts_at: "2026-11-01T01:30:00Z" };
  expect(faultsOf(formOf(held), held, NOW).size).toBe(0);
  expect(faultsOf({ ...formOf(held), start: new Date(NOW - 3_600_000) }, held, NOW).get("start")).toBe("past");
});

test("a span names the second day only where there is one", () => {
  const local = (day: number, hour: number, minute: number) => new Date(2026, 10, day, hour, minute).toISOString();
  expect(formatSpan(local(23, 9, 30), 90)).toBe("2026-11-23 09:30–11:00");
  expect(formatSpan(local(23, 23, 30), 60)).toBe("2026-11-23 23:30–2026-11-24 00:30");
});

test("the proposed start is a half hour that is not just about to begin", () => {
  expect(nextHalfHour(Date.parse("2026-11-23T02:19:00Z")).toISOString()).toBe("2026-11-23T02:30:00.000Z");
  expect(nextHalfHour(Date.parse("2026-11-23T02:21:00Z")).toISOString()).toBe("2026-11-23T03:00:00.000Z");
});

test("the zone is named with its offset", () => expect(zoneName()).toMatch(/UTC[+−]\d\d:\d\d$/));

test("the service's own faults belong to their fields", () => {
  const listed = new ApiProblem(422, { detail: "x", faults: [{ at: "title", what: "too long" }] });
  expect(listed.faults).toEqual([{ at: "title", what: "too long" }]);
  const past = new ApiProblem(400, { detail: "starts_at: 2020-01-01T00:00:00+00:00 is past" });
  expect(past.faults).toEqual([{ at: "starts_at", what: "2020-01-01T00:00:00+00:00 is past" }]);
  expect(new ApiProblem(409, { detail: "somebody changed it" }).faults).toEqual([]);
});
