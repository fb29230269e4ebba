// A live playlist in a video element: hls.js where there is Media Source, else the browser's own player. It only
// plays; when to begin anew is decided by whoever owns it.

import Hls, { ErrorDetails, Events } from "hls.js/light";

export interface PlayerListener {
  // It cannot go on: the player is closed, and may be opened again.
  failed: () => void;
  // The playlist says that nothing follows.
  ended: () => void;
}

const BEHIND = 8; // seconds behind the newest picture that count as "not live any more"

export class Player {
  private hls: Hls | null = null;
  private own = false;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly listener: PlayerListener,
  ) {
    video.addEventListener("error", () => {
      if (this.own) this.fail();
    });
  }

  static get supported(): boolean {
    return Hls.isSupported() || canPlayItself(document.createElement("video"));
  }

  get open(): boolean {
    return this.hls !== null || this.own;
  }

  // Seconds behind the place where live playing is meant to be.
  get behind(): number {
    const target = this.hls?.liveSyncPosition;
    return target === null || target === undefined ? 0 : target - this.video.currentTime;
  }

  get live(): boolean {
    return this.behind < BEHIND;
  }

  start(address: string): void {
    this.close();
    if (!Hls.isSupported()) {
      this.own = true;
      this.video.src = address;
      return;
    }
    const hls = new Hls({
      enableWorker: false, // fragments are MP4 already: nothing to do for a worker
      lowLatencyMode: true,
      maxLiveSyncPlaybackRate: 1.2,
      backBufferLength: 20,
      maxBufferLength: 20,
      manifestLoadPolicy: policy(15_000),
      playlistLoadPolicy: policy(20_000),
      fragLoadPolicy: policy(20_000),
    });
    this.hls = hls;
    hls.on(Events.ERROR, (_event, data) => {
      if (this.hls !== hls) return;
      if (data.fatal) this.fail();
      else if (data.details === ErrorDetails.LEVEL_EMPTY_ERROR) this.listener.ended(); // a stopped broadcast lists nothing
    });
    hls.on(Events.LEVEL_LOADED, (_event, data) => {
      if (!data.details.live && this.hls === hls) this.listener.ended();
    });
    hls.loadSource(address);
    hls.attachMedia(this.video);
  }

  toLive(): void {
    const target = this.hls?.liveSyncPosition;
    if (target !== null && target !== undefined) this.video.currentTime = target;
  }

  close(): void {
    this.hls?.destroy();
    this.hls = null;
    if (this.own) {
      this.own = false;
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  private fail(): void {
    this.close();
    this.listener.failed();
  }
}

function canPlayItself(video: HTMLVideoElement): boolean {
  return video.canPlayType("application/vnd.apple.mpegurl") !== "";
}

// A few quick tries; the page does the rest.
function policy(limit: number) {
  return {
    default: {
      maxTimeToFirstByteMs: limit,
      maxLoadTimeMs: limit,
      timeoutRetry: { maxNumRetry: 1, retryDelayMs: 0, maxRetryDelayMs: 0 },
      errorRetry: { maxNumRetry: 2, retryDelayMs: 500, maxRetryDelayMs: 2000 },
    },
  };
}
