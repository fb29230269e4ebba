/** Figures as people read them. Pure. */

/** "2.85 Mbit/s", "64 kbit/s"; three significant digits. */
export function formatRate(bitsPerSecond: number): string {
  if (!Number.isFinite(bitsPerSecond) || bitsPerSecond <= 0) return "0";
  const [value, unit] =
    bitsPerSecond >= 999_500_000
      ? [bitsPerSecond / 1e9, "Gbit/s"]
      : bitsPerSecond >= 999_500
        ? [bitsPerSecond / 1e6, "Mbit/s"]
        : [bitsPerSecond / 1e3, "kbit/s"];
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${unit}`;
}

export function formatPercent(fraction: number | null): string {
  if (fraction === null || !Number.isFinite(fraction)) return "–";
  const percent = fraction * 100;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent.toFixed(percent > 0 && percent < 10 ? 1 : 0)} %`;
}

export function formatMilliseconds(value: number | null): string {
  return value === null || !Number.isFinite(value) ? "–" : `${Math.round(value)} ms`;
}

/** Lost over all that should have come: `packets` arrived, `lost` did not. */
export function lossOf(packets: number, lost: number): number | null {
  const all = packets + Math.max(0, lost);
  return all <= 0 ? null : Math.max(0, lost) / all;
}

/** Local date and time, the same in every language: 11/12 means two days in two countries. */
export function formatTime(iso: string | null): string {
  if (iso === null) return "–";
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const two = (value: number) => String(value).padStart(2, "0");
  const date = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `${date} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
}

/** "2.5" Mbit/s typed by a person to whole bits a second; null if it is no positive number. */
export function bitsOfMegabits(text: string | number): number | null {
  const value = typeof text === "number" ? text : Number(text.trim().replace(",", "."));
  return Number.isFinite(value) && value > 0 ? Math.round(value * 1e6) : null;
}

/** "1.4 GB", "350 kB"; decimal units, as disks are sold. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes <= 0) return "0";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return `${Number(value.toFixed(value >= 100 || step === 0 ? 0 : 1))} ${units[step]}`;
}

/** "0:42", "12:05", "1:02:03". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** "HH:MM" of a time of day as people type it, or null; the end of a day may be "24:00". */
export function clockOf(text: string, end: boolean): string | null {
  const match = /^(\d{1,2})(?:[:：.]?(\d{1,2}))?$/.exec(text.trim());
  if (match === null) return null;
  const [hours, minutes] = [Number(match[1]), Number(match[2] ?? 0)];
  if (minutes > 59 || hours > 24 || (hours === 24 && (minutes > 0 || !end))) return null;
  return `${String(hours).padStart(2, "0")}:${String(minutes).padStart(2, "0")}`;
}
