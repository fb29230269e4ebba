/** What a camera shows now as a picture for an element; read when asked, never two at a time. */

import { onScopeDispose, ref, shallowRef } from "vue";

import { readSnapshot } from "@/api/cameras";
import type { ApiProblem } from "@/api/problem";

import { asProblem, coalesced } from "./rows";

export function useSnapshot(cameraId: () => string, width: number) {
  const address = ref<string | null>(null);
  const problem = shallowRef<ApiProblem | null>(null);
  const loading = ref(false);
  let gone = false;

  function put(next: string | null) {
    if (address.value !== null) URL.revokeObjectURL(address.value);
    address.value = next;
  }

  const refresh = coalesced(async () => {
    const id = cameraId();
    loading.value = true;
    try {
      const picture = await readSnapshot(id, width);
      if (gone || id !== cameraId()) return;
      put(URL.createObjectURL(picture));
      problem.value = null;
    } catch (error) {
      if (!gone && id === cameraId()) problem.value = asProblem(error);
    } finally {
      loading.value = false;
    }
  });

  onScopeDispose(() => {
    gone = true;
    put(null);
  });
  return { address, problem, loading, refresh, clear: () => put(null) };
}
