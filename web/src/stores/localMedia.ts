/** This browser's camera and microphone, shared by the preview and the meeting room. */

import { computed, ref, shallowRef } from "vue";

import {
  blackTrack,
  listDevices,
  openCamera,
  openMicrophone,
  type DeviceList,
  type DeviceProblem,
} from "@/media/devices";

import { remembered } from "./remembered";

const cameraId = remembered<string | null>("anshi.camera", null);
const microphoneId = remembered<string | null>("anshi.microphone", null);
const cameraOn = remembered("anshi.camera-on", true);
const microphoneOn = remembered("anshi.microphone-on", true);
const camera = shallowRef<MediaStreamTrack | null>(null);
const microphone = shallowRef<MediaStreamTrack | null>(null);
const cameraProblem = ref<DeviceProblem | null>(null);
const microphoneProblem = ref<DeviceProblem | null>(null);
const devices = shallowRef<DeviceList>({ cameras: [], microphones: [] });
const opening = ref(false);
let black: MediaStreamTrack | null = null;
let users = 0;

async function startCamera(): Promise<void> {
  camera.value?.stop();
  camera.value = null;
  if (!cameraOn.value) return;
  const opened = await openCamera(cameraId.value);
  cameraProblem.value = opened.problem;
  if (users === 0 || !cameraOn.value) opened.track?.stop();
  else camera.value = opened.track;
}

async function startMicrophone(): Promise<void> {
  microphone.value?.stop();
  microphone.value = null;
  const opened = await openMicrophone(microphoneId.value);
  microphoneProblem.value = opened.problem;
  if (users === 0) opened.track?.stop();
  else microphone.value = opened.track;
  if (opened.track !== null) opened.track.enabled = microphoneOn.value;
}

const relist = () => void listDevices().then((list) => (devices.value = list));

/** Opens what is not open yet. Each `open` is paired with a `release`. */
async function open(): Promise<void> {
  users += 1;
  if (users === 1 && "mediaDevices" in navigator) navigator.mediaDevices.addEventListener("devicechange", relist);
  opening.value = true;
  if (cameraOn.value && camera.value?.readyState !== "live") await startCamera();
  if (microphone.value?.readyState !== "live") await startMicrophone();
  opening.value = false;
  relist(); // names are only given once a device was allowed
}

function release(): void {
  users -= 1;
  // The room opens right after the preview releases: the device stays on for that moment.
  setTimeout(() => {
    if (users > 0) return;
    for (const track of [camera, microphone]) {
      track.value?.stop();
      track.value = null;
    }
    black?.stop();
    black = null;
    if ("mediaDevices" in navigator) navigator.mediaDevices.removeEventListener("devicechange", relist);
  }, 500);
}

/** What goes out as our picture: the camera, black while it is off, nothing when there is none. */
const pictureTrack = computed(() => {
  if (camera.value !== null) return camera.value;
  if (cameraOn.value || cameraProblem.value !== null) return null;
  if (black?.readyState !== "live") black = blackTrack();
  return black;
});

export function useLocalMedia() {
  return {
    camera,
    microphone,
    pictureTrack,
    cameraOn,
    microphoneOn,
    cameraId,
    microphoneId,
    cameraProblem,
    microphoneProblem,
    devices,
    opening,
    open,
    release,
    setCameraOn: async (on: boolean) => {
      cameraOn.value = on;
      await startCamera();
    },
    setMicrophoneOn: (on: boolean) => {
      microphoneOn.value = on;
      if (microphone.value !== null) microphone.value.enabled = on;
    },
    chooseCamera: async (id: string) => {
      cameraId.value = id;
      await startCamera();
    },
    chooseMicrophone: async (id: string) => {
      microphoneId.value = id;
      await startMicrophone();
    },
  };
}
