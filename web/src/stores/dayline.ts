/** What of a day is recorded, as spans of time (ms since 1970). Pure. */

import type { Recording } from "@/api/recordings";

export interface Stretch {
  from: number;
  to: number;
}

/** Files follow one another with less than this between them: to a person that is no gap. */
const SEAM_MS = 2_500;
export const HOUR_MS = 3_600_000;

export function endOf(recording: Recording, now: number): number {
  if (recording.ended_at !== null) return Date.parse(recording.ended_at);
  if (recording.state === "open") return now;
  return Date.parse(recording.started_at) + recording.seconds * 1000;
}

export function stretches(recordings: readonly Recording[], now: number): Stretch[] {
  const result: Stretch[] = [];
  const kept = recordings.filter((one) => one.state !== "lost");
  const sorted = kept.map((one) => ({ from: Date.parse(one.started_at), to: endOf(one, now) }));
  for (const next of sorted.sort((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    if (last !== undefined && next.from - last.to <= SEAM_MS) last.to = Math.max(last.to, next.to);
    else result.push({ ...next });
  }
  return result;
}

/** The moment itself where it is recorded, else the next one that is; null after the last. */
export function recordedFrom(spans: readonly Stretch[], moment: number): number | null {
  const span = spans.find((one) => one.to > moment);
  return span === undefined ? null : Math.max(moment, span.from);
}

/** Seconds of a window that are recorded. */
export function recordedSeconds(spans: readonly Stretch[], window: Stretch): number {
  const inside = ({ from, to }: Stretch) => Math.max(0, Math.min(to, window.to) - Math.max(from, window.from));
  return spans.reduce((sum, span) => sum + inside(span), 0) / 1000;
}

/** Local midnight of a date as the input gives it ("2026-03-01"), and that of the day after. */
export function dayOf(date: string): Stretch {
  const start = new Date(`${date}T00:00:00`);
  return {
    from: start.getTime(),
    to: new Date(start.getFullYear(), start.getMonth(), start.getDate() + 1).getTime(),
  };
}

/** The date of a moment as an input wants it. */
export function dateOf(moment: number): string {
  const at = new Date(moment);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}
