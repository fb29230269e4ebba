/** What a meeting's worker measures, read again and again while the page is seen. */

import { computed, shallowRef, watch, type Ref } from "vue";

import { readReport, type Leg } from "@/api/report";

import { frameRates, qualityByParticipant, type TimedReport } from "./legs";
import { useRows } from "./rows";

const READ_EVERY_MS = 2_000;

/** `speakers` is set from each report too: live events may be away. */
export function useReport(conferenceId: string, speakers: Ref<string[]>) {
  const latest = shallowRef<TimedReport | null>(null);
  const rates = shallowRef(new Map<Leg, number>());
  const rows = useRows(() => readReport(conferenceId), { everyMs: READ_EVERY_MS });
  watch(rows.value, (report) => {
    if (report === null) return;
    const current = { report, at: performance.now() };
    rates.value = frameRates(latest.value, current);
    latest.value = current;
    speakers.value = report.speakers;
  });
  const quality = computed(() => qualityByParticipant(latest.value?.report ?? null, rates.value));
  return { report: rows.value, problem: rows.problem, quality };
}
