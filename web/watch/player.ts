// A live playlist in a video element: hls.js where there is Media Source, else the browser's own player. It plays, and
// goes on by itself where the stream does; when to begin anew is decided by whoever owns it.

import Hls, { type ErrorData, ErrorDetails, ErrorTypes, Events } from "hls.js/light";

import { PlaylistLoader } from "./playlists";

export interface PlayerListener {
  // It cannot go on: the player is closed, and may be opened again.
  failed: () => void;
  // The playlist says that nothing follows.
  ended: () => void;
}

const BEHIND = 8; // seconds behind the newest picture that count as "not live any more"
const TEND_EVERY = 250;
const THERE = 0.9; // seconds of picture that are there and not played
const JUMP_AFTER = 900; // a picture that stands although there is more jumps to where live is ...
const LEAST_JUMP = 0.1; // ... over a hole at least ...
const ANEW_AFTER = 2400; // ... and if that does not help is fetched anew,
const SLOW_LOAD = 8000; // unless more of it is on its way
const FAR = 4; // seconds behind after an interruption that are jumped over ...
const JUMP_AGAIN = 6000; // ... once in so long
const RELOAD_AFTER = 400;
const RELOADS = 3;

export class Player {
  private hls: Hls | null = null;
  private own = false;
  private tending = 0;
  private reloading = 0;
  private reloads = 0;
  private position = 0;
  private movedAt = 0;
  private jumpedAt = 0;
  private jumped = false;
  private loadingSince = 0;

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
      pLoader: PlaylistLoader,
      manifestLoadPolicy: policy(15_000),
      playlistLoadPolicy: policy(20_000),
      fragLoadPolicy: policy(20_000),
    });
    this.hls = hls;
    hls.on(Events.ERROR, (_event, data) => {
      if (this.hls !== hls) return;
      if (data.fatal) this.mend(hls, data);
      else if (data.details === ErrorDetails.LEVEL_EMPTY_ERROR) this.listener.ended(); // a stopped broadcast lists nothing
    });
    hls.on(Events.LEVEL_LOADED, (_event, data) => {
      if (this.hls !== hls) return;
      this.reloads = 0;
      if (!data.details.live) this.listener.ended();
    });
    hls.on(Events.FRAG_LOADING, () => (this.loadingSince = performance.now()));
    hls.on(Events.FRAG_LOADED, () => (this.loadingSince = 0));
    hls.loadSource(address);
    hls.attachMedia(this.video);
    this.position = this.video.currentTime;
    this.movedAt = this.jumpedAt = performance.now();
    this.jumped = false;
    this.loadingSince = 0;
    this.tending = window.setInterval(() => this.tend(), TEND_EVERY);
  }

  toLive(): void {
    const target = this.hls?.liveSyncPosition;
    if (target !== null && target !== undefined) this.video.currentTime = target;
  }

  close(): void {
    window.clearInterval(this.tending);
    window.clearTimeout(this.reloading);
    this.reloads = 0;
    this.hls?.destroy();
    this.hls = null;
    if (this.own) {
      this.own = false;
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  // Whether the picture moves; if not although there is more of it, something is done about it.
  private tend(): void {
    const now = performance.now();
    const { currentTime, paused, readyState } = this.video;
    if (paused || readyState === 0) {
      this.movedAt = now;
    } else if (currentTime !== this.position) {
      this.movedAt = now;
      this.jumped = false;
      if (this.behind > FAR && now - this.jumpedAt > JUMP_AGAIN) this.jump(now);
    } else if ((this.hls?.latestLevelDetails?.edge ?? 0) - currentTime > THERE) {
      const loads = this.loadingSince > 0 && now - this.loadingSince < SLOW_LOAD;
      if (this.jumped && !loads && now - this.movedAt > ANEW_AFTER) this.fail();
      else if (!this.jumped && now - this.movedAt > JUMP_AFTER) this.jump(now);
    }
    this.position = this.video.currentTime;
  }

  private jump(now: number): void {
    this.jumped = true;
    this.jumpedAt = now;
    this.video.currentTime = Math.max(this.hls?.liveSyncPosition ?? 0, this.video.currentTime + LEAST_JUMP);
  }

  private mend(hls: Hls, error: ErrorData): void {
    this.reloads += 1;
    if (this.reloads > RELOADS || hls.latestLevelDetails === null) {
      this.fail();
      return;
    }
    if (error.type === ErrorTypes.MEDIA_ERROR) {
      hls.recoverMediaError();
      return;
    }
    window.clearTimeout(this.reloading);
    this.reloading = window.setTimeout(() => hls.startLoad(), RELOAD_AFTER * this.reloads);
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
