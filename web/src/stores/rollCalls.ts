/** Roll calls, counted. Pure. */

import type { Mark, RollCall } from "@/api/control";

export type MarkCounts = Record<Mark | "done" | "all", number>;

/** How many sites have each mark; `done` were called at least. */
export function countMarks(call: RollCall): MarkCounts {
  const of = (mark: Mark) => call.entries.filter((entry) => entry.mark === mark).length;
  const all = call.entries.length;
  const waiting = of("waiting");
  return { waiting, called: of("called"), present: of("present"), absent: of("absent"), done: all - waiting, all };
}
