/** All cameras that we may see, kept up by live events; a word on one camera changes that one row only. */

import { listCameras, type CameraState } from "@/api/cameras";

import { useLiveEvents, type LiveEvent } from "./live";
import { useRows } from "./rows";

const MEASURES_EVERY_MS = 15_000;

const changed = (event: LiveEvent) =>
  event.type === "CameraChanged" || (event.type === "RecordingChanged" && event.kind === "camera");

export function useCameras() {
  const rows = useRows(listCameras, { changedBy: changed, everyMs: MEASURES_EVERY_MS });
  const { online } = useLiveEvents((event) => {
    if (event.type !== "CameraStateChanged" || rows.value.value === null) return;
    rows.value.value = rows.value.value.map((camera) =>
      camera.id === event.camera_id
        ? { ...camera, state: event.state as CameraState, fault: event.fault ?? "", cause: event.cause ?? "" }
        : camera,
    );
  });
  return { ...rows, online };
}
