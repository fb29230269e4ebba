/** What a person fills in for a scheduled meeting, and what is wrong with it. Pure. */

import type { Lobby, NewSchedule, Planned, Repeat, Schedule, ScheduleChange } from "@/api/schedules";

import { nextHalfHour } from "./times";

export interface ScheduleForm {
  title: string;
  /** A template has no start. */
  template: boolean;
  start: Date | null;
  minutes: string;
  repeat: Repeat;
  number: string;
  pin: string;
  /** Of a schedule that has one: take it away. */
  dropPin: boolean;
  host: string;
  participants: Planned[];
  autoDial: boolean;
  redials: string;
  lobby: Lobby;
  autoRecord: boolean;
  endsByItself: boolean;
}

export type ScheduleField = "title" | "start" | "minutes" | "number" | "pin" | "redials";
/** The key of the words that say what is wrong with a field. */
export type ScheduleFault = "missing" | "past" | "length" | "number" | "pin" | "redials";

const LATE_MS = 60_000;
const whole = (text: string) => (/^\d+$/.test(text.trim()) ? Number(text.trim()) : NaN);

/** A new one, or one after a pattern: a template, or a meeting that was held. */
export function newForm(pattern: Schedule | null): ScheduleForm {
  return { ...formOf(pattern), template: false, start: nextHalfHour(), pin: "" };
}

export function formOf(schedule: Schedule | null): ScheduleForm {
  return {
    title: schedule?.title ?? "",
    template: schedule !== null && schedule.starts_at === null,
    start: schedule?.starts_at == null ? null : new Date(schedule.starts_at),
    minutes: String(schedule?.duration_minutes ?? 120),
    repeat: schedule?.repeat ?? "none",
    number: schedule?.number ?? "",
    pin: "",
    dropPin: false,
    host: schedule?.host_site_id ?? "",
    participants: (schedule?.participants ?? []).map((one) => ({ ...one })),
    autoDial: schedule?.auto_dial ?? true,
    redials: String(schedule?.redials ?? 3),
    lobby: schedule?.lobby ?? "off",
    autoRecord: schedule?.auto_record ?? false,
    endsByItself: schedule?.ends_by_itself ?? true,
  };
}

/** `before` is what is changed: a start that is past already and stays is no mistake. */
export function faultsOf(
  form: ScheduleForm,
  before: Schedule | null,
  now: number = Date.now(),
): Map<ScheduleField, ScheduleFault> {
  const found = new Map<ScheduleField, ScheduleFault>();
  if (form.title.trim() === "") found.set("title", "missing");
  if (!form.template) {
    const start = form.start?.getTime();
    const kept = before?.starts_at != null && start === Date.parse(before.starts_at);
    if (start === undefined) found.set("start", "missing");
    else if (!kept && start < now - LATE_MS) found.set("start", "past");
  }
  const minutes = whole(form.minutes);
  if (!(minutes >= 30 && minutes <= 24 * 60)) found.set("minutes", "length");
  if (!/^(\d{3,12})?$/.test(form.number.trim())) found.set("number", "number");
  if (!/^(\d{4,12})?$/.test(form.pin.trim())) found.set("pin", "pin");
  const redials = whole(form.redials);
  if (!(redials >= 0 && redials <= 10)) found.set("redials", "redials");
  return found;
}

function common(form: ScheduleForm) {
  return {
    title: form.title.trim(),
    number: form.number.trim() === "" ? null : form.number.trim(),
    starts_at: form.template || form.start === null ? null : form.start.toISOString(),
    duration_minutes: whole(form.minutes),
    repeat: form.template ? ("none" as const) : form.repeat,
    participants: form.participants,
    auto_record: form.autoRecord,
    auto_dial: form.autoDial,
    ends_by_itself: form.endsByItself,
    redials: whole(form.redials),
    lobby: form.lobby,
  };
}

export function newSchedule(form: ScheduleForm): NewSchedule {
  return {
    ...common(form),
    ...(form.host === "" ? {} : { host_site_id: form.host }),
    ...(form.pin.trim() === "" ? {} : { pin: form.pin.trim() }),
  };
}

/** Only what is other than before: the audit names each member that is sent. */
export function scheduleChange(form: ScheduleForm, before: Schedule): ScheduleChange {
  const now = common(form);
  const same = (name: keyof typeof now) =>
    name === "starts_at"
      ? Date.parse(now.starts_at ?? "") === Date.parse(before.starts_at ?? "") || now.starts_at === before.starts_at
      : JSON.stringify(now[name]) === JSON.stringify(before[name]);
  const changed = Object.entries(now).filter(([name]) => !same(name as keyof typeof now));
  return {
    ...(Object.fromEntries(changed) as Partial<typeof now>),
    ...(form.pin.trim() !== "" ? { pin: form.pin.trim() } : form.dropPin && before.has_pin ? { pin: null } : {}),
    version: before.version,
  };
}
