/** A camera's live picture for a component: opened while wanted and seen, closed when hidden or gone. */

import { onScopeDispose, ref, shallowRef, watch, type Ref } from "vue";

import { stopWatching, watchCamera } from "@/api/cameras";
import type { ApiProblem } from "@/api/problem";
import { readIceServers } from "@/api/webrtc";
import { CameraView, type ViewState } from "@/media/cameraView";

const ICE_KEPT_MS = 60_000;
/** A glance at another tab does not tear a wall down. */
const BACKGROUND_MS = 4_000;

let iceServers: { at: number; servers: Promise<RTCIceServer[]> } | null = null;

/** One answer serves all tiles of a wall for a minute. */
function sharedIceServers(): Promise<RTCIceServer[]> {
  if (iceServers === null || Date.now() - iceServers.at > ICE_KEPT_MS) {
    iceServers = { at: Date.now(), servers: readIceServers() };
  }
  return iceServers.servers;
}

/** False a few seconds after the page has gone to the background, true at once when it is back. */
export function usePageShown(): Ref<boolean> {
  const shown = ref(document.visibilityState === "visible");
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(timer);
    if (document.visibilityState === "visible") shown.value = true;
    else timer = setTimeout(() => (shown.value = false), BACKGROUND_MS);
  };
  document.addEventListener("visibilitychange", look);
  onScopeDispose(() => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  });
  return shown;
}

export function useCameraView(cameraId: () => string, wanted: () => boolean) {
  const stream = shallowRef<MediaStream | null>(null);
  const state = ref<ViewState | "off">("off");
  const problem = shallowRef<ApiProblem | null>(null);
  const pageShown = usePageShown();
  let view: CameraView | null = null;

  function close() {
    view?.close();
    view = null;
    stream.value = null;
    problem.value = null;
    state.value = "off";
  }

  function open(id: string) {
    state.value = "connecting";
    view = new CameraView(
      { iceServers: sharedIceServers, offer: (sdp) => watchCamera(id, sdp), stop: stopWatching },
      {
        state: (next, why) => {
          state.value = next;
          problem.value = why;
        },
        stream: (next) => (stream.value = next),
      },
    );
    view.start();
  }

  watch(
    () => [cameraId(), wanted() && pageShown.value] as const,
    ([id, watching], before) => {
      if (before !== undefined && id === before[0] && watching === before[1]) return;
      close();
      if (watching) open(id);
    },
    { immediate: true },
  );
  window.addEventListener("pagehide", close);
  onScopeDispose(() => {
    window.removeEventListener("pagehide", close);
    close();
  });

  return {
    stream,
    state,
    problem,
    /** Tries again at once after a refusal. */
    again: () => {
      close();
      if (wanted() && pageShown.value) open(cameraId());
    },
  };
}
