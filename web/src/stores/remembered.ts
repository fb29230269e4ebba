import { ref, watch, type Ref } from "vue";

/** A value kept in localStorage; a browser that forbids storage only forgets it. */
export function remembered<T>(key: string, initial: T): Ref<T> {
  const value = ref(read(key, initial)) as Ref<T>;
  watch(value, (next) => {
    try {
      localStorage.setItem(key, JSON.stringify(next));
    } catch {
      // storage is full or forbidden
    }
  });
  return value;
}

function read<T>(key: string, initial: T): T {
  try {
    const kept = localStorage.getItem(key);
    return kept === null ? initial : (JSON.parse(kept) as T);
  } catch {
    return initial;
  }
}
