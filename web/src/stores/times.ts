/** Dates and spans of scheduled meetings, in the time zone of this browser. Pure but for that zone. */

const two = (value: number) => String(value).padStart(2, "0");

/** "2026-11-23 09:30" of this browser's zone. */
export function formatMinute(iso: string): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  return `${dayOf(at)} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** "2026-11-23 09:30–11:30", or with the second day where it ends on another one. */
export function formatSpan(iso: string, minutes: number): string {
  const from = new Date(iso);
  const to = new Date(from.getTime() + minutes * 60_000);
  const end = `${two(to.getHours())}:${two(to.getMinutes())}`;
  return `${formatMinute(iso)}–${dayOf(from) === dayOf(to) ? end : `${dayOf(to)} ${end}`}`;
}

const dayOf = (at: Date) => [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");

/** "Asia/Shanghai, UTC+08:00" as it is at a moment: summer time moves it. */
export function zoneName(at: Date = new Date()): string {
  const east = -at.getTimezoneOffset();
  const offset = `UTC${east < 0 ? "−" : "+"}${two(Math.floor(Math.abs(east) / 60))}:${two(Math.abs(east) % 60)}`;
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return name === "UTC" ? offset : `${name}, ${offset}`;
}

/** The next full half hour that is at least ten minutes away. */
export function nextHalfHour(now: number = Date.now()): Date {
  const step = 30 * 60_000;
  return new Date(Math.ceil((now + 10 * 60_000) / step) * step);
}

/** Hours and minutes of a length: [1, 30] of 90. */
export const hoursOf = (minutes: number): [number, number] => [Math.floor(minutes / 60), minutes % 60];
