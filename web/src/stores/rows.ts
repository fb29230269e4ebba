/** Rows of the service on a page: read at once, on live events, and on demand; never two reads at a time. */

import { onScopeDispose, ref, shallowRef, type Ref, type ShallowRef } from "vue";

import { ApiProblem } from "@/api/problem";

import { useLiveEvents, type LiveEvent } from "./live";

export interface Rows<T> {
  value: ShallowRef<T | null>;
  problem: Ref<ApiProblem | null>;
  loading: Ref<boolean>;
  refresh: () => Promise<void>;
}

export function asProblem(error: unknown): ApiProblem {
  return error instanceof ApiProblem ? error : new ApiProblem(-1, { detail: String(error) });
}

/** One read at a time; what is asked while one runs is answered by one more after it. */
export function coalesced(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let wanted = false;
  const loop = async () => {
    do {
      wanted = false;
      await work();
    } while (wanted);
  };
  return () => {
    wanted = true;
    running ??= loop().finally(() => (running = null));
    return running;
  };
}

export interface RowsOptions {
  /** Which live events mean that these rows may have changed; "Resync" always does. */
  changedBy?: (event: LiveEvent) => boolean;
  /** Read again every so many ms (measurements that no event announces). */
  everyMs?: number;
}

export function useRows<T>(read: () => Promise<T>, options: RowsOptions = {}): Rows<T> {
  const value = shallowRef<T | null>(null);
  const problem = ref<ApiProblem | null>(null);
  const loading = ref(true);
  const refresh = coalesced(async () => {
    try {
      value.value = await read();
      problem.value = null;
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      loading.value = false;
    }
  });
  const changedBy = options.changedBy;
  if (changedBy !== undefined) {
    useLiveEvents((event) => {
      if (event.type === "Resync" || changedBy(event)) void refresh();
    });
  }
  if (options.everyMs !== undefined) {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") void refresh();
    }, options.everyMs);
    onScopeDispose(() => clearInterval(timer));
  }
  void refresh();
  return { value, problem, loading, refresh };
}
