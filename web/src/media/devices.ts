/** Cameras and microphones: opening what there is, and saying plainly what is not. */

/** Why a device could not be opened, in the words the pages have a text for. */
export type DeviceProblem = "denied" | "missing" | "busy" | "insecure" | "failed";

export interface DeviceChoice {
  cameraId: string | null;
  microphoneId: string | null;
}

export interface OpenedDevice {
  track: MediaStreamTrack | null;
  problem: DeviceProblem | null;
}

export interface DeviceList {
  cameras: MediaDeviceInfo[];
  microphones: MediaDeviceInfo[];
}

/** The names of getUserMedia's exceptions (Media Capture and Streams 10.2.3). */
export function problemOfDevice(error: unknown): DeviceProblem {
  const name = error instanceof Error ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  if (name === "NotFoundError" || name === "OverconstrainedError") return "missing";
  if (name === "NotReadableError" || name === "AbortError") return "busy";
  return "failed";
}

async function open(constraints: MediaStreamConstraints): Promise<OpenedDevice> {
  // Browsers hide mediaDevices on plain http:// pages of other hosts.
  if (!window.isSecureContext || !("mediaDevices" in navigator)) return { track: null, problem: "insecure" };
  try {
    const stream = await navigator.mediaDevices.getUserMedia(constraints);
    return { track: stream.getTracks()[0] ?? null, problem: null };
  } catch (error) {
    return { track: null, problem: problemOfDevice(error) };
  }
}

/** The chosen camera, or any other when it is gone. Asked apart from the microphone: one may be missing. */
export function openCamera(id: string | null): Promise<OpenedDevice> {
  return open({
    video: {
      ...(id === null ? {} : { deviceId: { ideal: id } }),
      width: { ideal: 1280 },
      height: { ideal: 720 },
      frameRate: { ideal: 25, max: 30 },
    },
  });
}

export function openMicrophone(id: string | null): Promise<OpenedDevice> {
  return open({
    audio: {
      ...(id === null ? {} : { deviceId: { ideal: id } }),
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
    },
  });
}

export async function listDevices(): Promise<DeviceList> {
  if (!("mediaDevices" in navigator)) return { cameras: [], microphones: [] };
  const all = await navigator.mediaDevices.enumerateDevices();
  const of = (kind: MediaDeviceKind) => all.filter((device) => device.kind === kind && device.deviceId !== "");
  return { cameras: of("videoinput"), microphones: of("audioinput") };
}

/**
 * A black picture to send while the camera is off: its light goes out, and the others see a black tile
 * instead of a frozen face.
 */
export function blackTrack(): MediaStreamTrack | null {
  const canvas = document.createElement("canvas");
  canvas.width = 320;
  canvas.height = 180;
  const context = canvas.getContext("2d");
  const track = canvas.captureStream(2).getVideoTracks()[0] ?? null;
  if (context === null || track === null) return null;
  let shade = 0;
  const paint = () => {
    if (track.readyState === "ended") {
      clearInterval(timer);
      return;
    }
    shade = 1 - shade; // a canvas that does not change sends no frame
    context.fillStyle = `rgb(${shade}, 0, 0)`;
    context.fillRect(0, 0, canvas.width, canvas.height);
  };
  const timer = setInterval(paint, 500);
  paint();
  return track;
}

/** The loudness of a microphone, 0 to 1, about ten times a second; the returned function ends it. */
export function watchLoudness(track: MediaStreamTrack, tell: (level: number) => void): () => void {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  // Without a click on this page yet (it was opened by its address) the browser holds audio back until one.
  const wake = () => void context.resume();
  document.addEventListener("pointerdown", wake, { once: true });
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((total, sample) => total + sample * sample, 0) / samples.length;
    const decibel = 10 * Math.log10(Math.max(power, 1e-9));
    tell(Math.min(1, Math.max(0, (decibel + 60) / 50))); // -60 dBFS is silence, -10 dBFS loud speech
  }, 100);
  return () => {
    clearInterval(timer);
    document.removeEventListener("pointerdown", wake);
    void context.close();
  };
}
