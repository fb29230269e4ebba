/**
 * Plays what was recorded of one subject by the clock: the playlist has some half an hour around the moment
 * asked for, and the next one is loaded when it has been played. Gaps are skipped, as the playlist says.
 */

import type HlsClass from "hls.js";
import type { ErrorData, LevelDetails } from "hls.js";

import { playlistAddress, type RecordedKind } from "@/api/recordings";

const BEFORE_MS = 5 * 60_000;
const AFTER_MS = 25 * 60_000;
const MOST_RECOVERIES = 8;

export type PlayerTrouble = { kind: "service"; status: number } | { kind: "media"; detail: string };

export interface PlayerEvents {
  /** The wall-clock time of what is shown, ms. */
  time(moment: number): void;
  trouble(trouble: PlayerTrouble | null): void;
  /** Played to the end of what was loaded; `moment` is where to go on. */
  ended(moment: number): void;
}

type Hls = InstanceType<typeof HlsClass>;

export class RecordingPlayer {
  private hls: Hls | null = null;
  private details: LevelDetails | null = null;
  private span = { from: 0, to: 0 };
  private wanted: number | null = null;
  private generation = 0;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly subject: { kind: RecordedKind; subject: string },
    private readonly events: PlayerEvents,
  ) {
    video.addEventListener("timeupdate", this.tell);
    video.addEventListener("ended", this.finished);
  }

  /** Shows the moment (ms since 1970) and plays on from there. */
  async playAt(moment: number): Promise<void> {
    const time = this.details === null || moment < this.span.from ? null : timeOf(this.details, moment);
    if (time !== null && moment < this.span.to) {
      this.video.currentTime = time;
      void this.video.play().catch(() => undefined);
      return;
    }
    await this.load(moment);
  }

  close(): void {
    this.generation += 1;
    this.video.removeEventListener("timeupdate", this.tell);
    this.video.removeEventListener("ended", this.finished);
    this.hls?.destroy();
    this.hls = null;
  }

  private async load(moment: number): Promise<void> {
    this.generation += 1;
    const generation = this.generation;
    const { default: Hls } = await import("hls.js");
    if (generation !== this.generation) return;
    this.hls?.destroy();
    this.details = null;
    this.wanted = moment;
    this.span = { from: moment - BEFORE_MS, to: moment + AFTER_MS };
    this.events.trouble(null);
    // the worker would come from a blob:, which our content policy forbids
    const hls = new Hls({ enableWorker: false, maxBufferLength: 20, backBufferLength: 60, startPosition: 0 });
    this.hls = hls;
    hls.on(Hls.Events.LEVEL_LOADED, (_name, { details }) => {
      if (this.details !== null) return;
      this.details = details;
      hls.startLoad(timeOf(details, this.wanted ?? moment) ?? 0);
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => void this.video.play().catch(() => undefined));
    hls.on(Hls.Events.BUFFER_APPENDED, () => this.arrive());
    let recoveries = 0;
    hls.on(Hls.Events.ERROR, (_name, data) => {
      // a file with sound after one without wants other buffers than the browser has
      const media = data.fatal && data.type === Hls.ErrorTypes.MEDIA_ERROR;
      if (!media || ++recoveries > MOST_RECOVERIES) return this.failed(data);
      hls.recoverMediaError();
      void this.video.play().catch(() => undefined);
    });
    hls.loadSource(
      playlistAddress({
        kind: this.subject.kind,
        subject: this.subject.subject,
        from: new Date(this.span.from).toISOString(),
        to: new Date(this.span.to).toISOString(),
      }),
    );
    hls.attachMedia(this.video);
  }

  /** With the first pieces there the playhead is put on the moment itself. */
  private arrive(): void {
    if (this.wanted === null || this.details === null) return;
    const time = timeOf(this.details, this.wanted);
    this.wanted = null;
    if (time !== null && Math.abs(this.video.currentTime - time) > 1) this.video.currentTime = time;
  }

  private failed(data: ErrorData): void {
    if (!data.fatal) return;
    const status = data.response?.code ?? 0;
    this.events.trouble(status >= 400 ? { kind: "service", status } : { kind: "media", detail: data.details });
    this.hls?.destroy();
    this.hls = null;
    this.details = null;
  }

  private readonly tell = () => {
    const moment = this.details === null ? null : momentOf(this.details, this.video.currentTime);
    if (moment !== null && this.wanted === null) this.events.time(moment);
  };

  private readonly finished = () => {
    const last = this.details?.fragments.at(-1);
    const end = last?.programDateTime == null ? this.span.to : last.programDateTime + last.duration * 1000;
    this.details = null;
    this.events.ended(end);
  };
}

/** Where a wall-clock moment stands in the playlist, in s; what is not there gives the next that is. */
export function timeOf(details: Pick<LevelDetails, "fragments">, moment: number): number | null {
  for (const fragment of details.fragments) {
    const begins = fragment.programDateTime;
    if (begins === null) continue;
    if (moment < begins) return fragment.start;
    if (moment < begins + fragment.duration * 1000) return fragment.start + (moment - begins) / 1000;
  }
  return null;
}

/** The wall-clock moment that stands at `time` (s) of the playlist. */
export function momentOf(details: Pick<LevelDetails, "fragments">, time: number): number | null {
  for (const fragment of details.fragments) {
    const begins = fragment.programDateTime;
    if (begins !== null && time < fragment.start + fragment.duration) {
      return begins + Math.max(0, time - fragment.start) * 1000;
    }
  }
  return null;
}
