/** The audit chain page by page: oldest first as the service gives it, newest first as people read it. */

import { computed, ref, shallowRef } from "vue";

import { readAudit, type AuditRow } from "@/api/audit";
import type { ApiProblem } from "@/api/problem";

import { asProblem } from "./rows";

const PAGES_AT_ONCE = 10;

/** The detail of a row as text: it may come as JSON or as the canonical JSON text that was hashed. */
export function detailText(detail: unknown): string {
  const value: unknown = typeof detail === "string" ? parsed(detail) : detail;
  if (value === null || value === undefined) return "";
  if (typeof value !== "object") return typeof value === "string" ? value : JSON.stringify(value);
  return Object.entries(value)
    .map(([name, member]) => `${name}: ${typeof member === "object" ? JSON.stringify(member) : String(member)}`)
    .join(", ");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function useAuditTrail(read: (after: number) => Promise<AuditRow[]> = readAudit) {
  const rows = shallowRef<AuditRow[]>([]);
  const problem = ref<ApiProblem | null>(null);
  const loading = ref(false);
  /** The service has more than we have read. */
  const more = ref(false);

  async function load(): Promise<void> {
    if (loading.value) return;
    loading.value = true;
    problem.value = null;
    try {
      more.value = true;
      for (let page = 0; page < PAGES_AT_ONCE && more.value; page += 1) {
        const next = await read(rows.value.at(-1)?.sequence ?? 0);
        rows.value = [...rows.value, ...next];
        more.value = next.length > 0;
      }
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      loading.value = false;
    }
  }

  return { newestFirst: computed(() => rows.value.toReversed()), problem, loading, more, load };
}
