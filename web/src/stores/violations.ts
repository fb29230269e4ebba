/** The list of violations under a filter: page by page, and kept up by live events. */

import { onScopeDispose, ref, shallowRef, watch, type Ref } from "vue";

import type { ApiProblem } from "@/api/problem";
import {
  listViolations,
  readViolation,
  readViolationSummary,
  type Violation,
  type ViolationFilter,
} from "@/api/violations";

import { useLiveEvents } from "./live";
import { asProblem, coalesced, useRows } from "./rows";

const PAGE = 40;
const MOST_FRESH = 200;
/** Many violations at once are one reading. */
const GATHER_MS = 300;

/** Rows by id, newest first; a row with a lower version than ours is old news. */
export function merged(rows: readonly Violation[], fresh: readonly Violation[]): Violation[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  for (const row of fresh) {
    const ours = byId.get(row.id);
    if (ours === undefined || ours.version <= row.version) byId.set(row.id, row);
  }
  return [...byId.values()].sort((a, b) => b.started_at.localeCompare(a.started_at));
}

export function useViolations(filter: Ref<ViolationFilter>) {
  const rows = shallowRef<Violation[] | null>(null);
  const next = ref<string | null>(null);
  const problem = shallowRef<ApiProblem | null>(null);
  const loading = ref(false);
  /** Flagged while the page was open and not looked at yet. */
  const fresh = ref(new Set<string>());
  const touched = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const summary = useRows(readViolationSummary);

  async function load(read: () => Promise<void>): Promise<void> {
    const asked = JSON.stringify(filter.value);
    loading.value = true;
    try {
      await read();
      problem.value = null;
    } catch (error) {
      if (asked === JSON.stringify(filter.value)) problem.value = asProblem(error);
    } finally {
      loading.value = false;
    }
  }

  /** The newest page anew, as many rows as are on the screen. */
  const refresh = coalesced(() =>
    load(async () => {
      const asked = filter.value;
      const limit = Math.min(MOST_FRESH, Math.max(PAGE, rows.value?.length ?? 0));
      const page = await listViolations(asked, limit, null);
      if (asked !== filter.value) return;
      rows.value = page.items;
      next.value = page.items.length === 0 ? null : page.next;
    }),
  );

  const more = () =>
    load(async () => {
      const asked = filter.value;
      const page = await listViolations(asked, PAGE, next.value);
      if (asked !== filter.value) return;
      rows.value = merged(rows.value ?? [], page.items);
      next.value = page.items.length === 0 ? null : page.next;
    });

  /** One changed row is read alone; more of them, or a new one, are a new page. */
  async function follow(): Promise<void> {
    const ids = [...touched];
    touched.clear();
    void summary.refresh();
    const known = rows.value?.find((row) => row.id === ids[0]);
    if (ids.length !== 1 || known === undefined || filter.value.state !== "") return refresh();
    try {
      rows.value = merged(rows.value ?? [], [await readViolation(known.id)]);
    } catch {
      await refresh();
    }
  }

  const { online } = useLiveEvents((event) => {
    if (event.type === "Resync") {
      void refresh();
      void summary.refresh();
      return;
    }
    if (event.violation_id === undefined) return;
    if (event.type === "ViolationFlagged") fresh.value.add(event.violation_id);
    touched.add(event.violation_id);
    clearTimeout(timer);
    timer = setTimeout(() => void follow(), GATHER_MS);
  });
  onScopeDispose(() => clearTimeout(timer));
  watch(filter, () => {
    rows.value = null;
    next.value = null;
    void refresh();
  });
  void refresh();

  return { rows, next, problem, loading, fresh, summary: summary.value, refresh, more, online };
}
