/** Capturing a screen, a window or a tab to share it. */

/** Why there is nothing to share; "cancelled" needs no word, the person chose not to. */
export type ScreenProblem = "cancelled" | "impossible" | "denied";

export const canCaptureScreen = (): boolean =>
  window.isSecureContext && typeof navigator.mediaDevices?.getDisplayMedia === "function";

export interface CapturedScreen {
  track: MediaStreamTrack | null;
  problem: ScreenProblem | null;
}

/** Asks the person what to share. Text must stay sharp, so frames go before size when the line is narrow. */
export async function captureScreen(): Promise<CapturedScreen> {
  if (!canCaptureScreen()) return { track: null, problem: "impossible" };
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({
      video: { width: { max: 1920 }, height: { max: 1080 }, frameRate: { ideal: 10, max: 15 } },
      audio: false,
    });
    const track = stream.getVideoTracks()[0] ?? null;
    if (track !== null) track.contentHint = "detail";
    return { track, problem: track === null ? "impossible" : null };
  } catch (error) {
    const system = error instanceof Error && /system/i.test(error.message);
    const cancelled = error instanceof Error && error.name === "NotAllowedError" && !system;
    return { track: null, problem: cancelled ? "cancelled" : "denied" };
  }
}
