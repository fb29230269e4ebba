import { addressOf, call, exchangeSdp, queryOf, readPicture } from "./http";

export type CameraState = "idle" | "connecting" | "playing" | "waiting" | "unknown";

export interface Camera {
  id: string;
  site_id: string;
  site_name: string;
  name: string;
  /** Where it is and how to sign in: only for those who manage devices. */
  url: string | null;
  username: string | null;
  udp: boolean;
  enabled: boolean;
  recording: boolean;
  analysed: boolean;
  state: CameraState;
  fault: string;
  cause?: string;
  codec: string;
  width: number;
  height: number;
  bitrate_bps: number;
  frame_rate: number;
  sound: string;
}

export interface NewCamera {
  id?: string;
  site_id: string;
  name: string;
  url: string;
  username?: string;
  password?: string;
  udp: boolean;
}

export type CameraChange = Partial<Omit<NewCamera, "id" | "site_id"> & { enabled: boolean }>;

export interface CameraTest {
  ok: boolean;
  cause: string;
  detail: string;
  codec: string;
  width: number;
  height: number;
  sound: string;
}

const TEST_MS = 20_000;
const at = (id: string) => `/cameras/${encodeURIComponent(id)}`;

export const listCameras = () => call<Camera[]>("GET", "/cameras");
export const readCamera = (id: string) => call<Camera>("GET", at(id));
export const createCamera = (body: NewCamera) => call<Camera>("POST", "/cameras", { body });
export const changeCamera = (id: string, body: CameraChange) => call<Camera>("PATCH", at(id), { body });
export const removeCamera = (id: string) => call<undefined>("DELETE", at(id));
export const testCamera = (body: Omit<NewCamera, "id" | "name">) =>
  call<CameraTest>("POST", "/cameras/test", { body, timeoutMs: TEST_MS });
export const recordCamera = (id: string, on: boolean) => call<unknown>("PUT", `${at(id)}/recording`, { body: { on } });
export const readSnapshot = (id: string, width: number) => readPicture(`${at(id)}/snapshot.jpg${queryOf({ width })}`);

const whep = (cameraId: string) => `/streams/${encodeURIComponent(`camera:${cameraId}`)}/whep`;

/** Offers to watch; `location` is what `stopWatching` takes. */
export const watchCamera = (cameraId: string, offer: string) => exchangeSdp(whep(cameraId), offer);

export async function stopWatching(location: string): Promise<void> {
  const path = new URL(location, document.baseURI).pathname;
  if (path.startsWith(addressOf("/streams/"))) await call<undefined>("DELETE", path, { keepalive: true });
}
