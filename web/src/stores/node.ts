/** Which node of the tree this service is; read once. */

import { readonly, ref } from "vue";

import { readHealth, type Health } from "@/api/health";

const node = ref<Health["node"] | null>(null);
let reading: Promise<void> | null = null;

export function useNode() {
  reading ??= readHealth().then(
    (health) => void (node.value = health.node),
    () => void (reading = null), // a name in a corner is not worth an error
  );
  return { node: readonly(node) };
}
