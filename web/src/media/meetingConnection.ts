/**
 * A page's media connection to one meeting, for as long as the person stays.
 *
 * Lifecycle: `start()` offers and joins; from then on the connection mends itself: when ICE or DTLS fails,
 * when it stays disconnected for 3 s, when nothing arrives for 3.5 s, or when the service says so (`reoffer()`),
 * a new RTCPeerConnection makes a full new offer for the same participant. `close()` hangs up. States are told
 * through `events.state`; "ended" is final and carries the reason.
 */

import { ApiProblem } from "@/api/problem";
import type { WebrtcAnswer } from "@/api/webrtc";

import { candidateOf, orderVideoCodecs } from "./codecs";
import { gathered } from "./gathering";
import { QualityMeter, type Quality } from "./quality";

export type ConnectionState = "connecting" | "connected" | "interrupted" | "ended";

/** Why there is no media: the service refused or is away, no packet passes, or the answer does not fit. */
export type Trouble =
  | { kind: "service"; problem: ApiProblem }
  | { kind: "media-path"; candidate: string | null }
  | { kind: "negotiation"; message: string };

/** What the connection asks of the service; bound to one meeting. */
export interface Signalling {
  iceServers(): Promise<RTCIceServer[]>;
  offer(sdp: string, participantId: string | null): Promise<WebrtcAnswer>;
  hangUp(participantId: string): Promise<unknown>;
}

export interface ConnectionEvents {
  state(state: ConnectionState, trouble: Trouble | null): void;
  /** The received programme; a new stream after each new offer. */
  programme(stream: MediaStream): void;
  /** What comes as slides, ours to show while somebody shares; null where the service took no second picture. */
  slides(stream: MediaStream | null): void;
  quality(quality: Quality): void;
}

export interface LocalTracks {
  audio: MediaStreamTrack | null;
  video: MediaStreamTrack | null;
  /** The screen that is shared. */
  slides: MediaStreamTrack | null;
}

type Medium = keyof LocalTracks;
/** In the order of the sections of our offer: the second picture is the slides. */
const MEDIA: readonly Medium[] = ["audio", "video", "slides"];

type TimerName = "connect" | "first-frame" | "measure" | "disconnected";

const GATHER_MS = 1_500;
const CONNECT_MS = 10_000;
const DISCONNECTED_MS = 3_000;
const SILENCE_MS = 3_500;
const FIRST_FRAME_MS = 2_000;
const READ_MS = 1_000;
const BACKOFF_MS = [0, 1_000, 2_000, 4_000, 8_000];
const REJOIN_MS = 1_500;
const GONE_STATUSES = new Set([404, 410]);
const FINAL_STATUSES = new Set([400, 401, 403, 404, 409, 410, 415, 422]);
/** Below the usual 3 Mbit/s, overshoot and sound included, until the service says what it takes. */
const VIDEO_CEILING_BPS = 1_900_000;
/** The same for the slides; what the service writes into its answer is obeyed below it. */
const SLIDES_CEILING_BPS = 1_500_000;

export class MeetingConnection {
  private peer: RTCPeerConnection | null = null;
  /** The last connection that showed a picture: its last frame stays on the screen until there is a new one. */
  private retired: RTCPeerConnection | null = null;
  private shown = false;
  private participant: string | null = null;
  private state: ConnectionState = "connecting";
  private closed = false;
  private attempting = false;
  private again = false;
  private failures = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private trouble: Trouble | null = null;
  /** Timers that end with the peer connection they belong to. */
  private readonly timers = new Map<TimerName, ReturnType<typeof setTimeout>>();

  constructor(
    private readonly signalling: Signalling,
    private readonly events: ConnectionEvents,
    private readonly tracks: LocalTracks,
    private readonly createPeer = (configuration: RTCConfiguration) => new RTCPeerConnection(configuration),
  ) {}

  /** Our place in the roster, once the first offer was answered. */
  get participantId(): string | null {
    return this.participant;
  }

  start(): void {
    void this.attempt();
  }

  /** Offers anew at once (the service asked, the network came back). Harmless when it is already under way. */
  reoffer(): void {
    if (this.closed || this.state === "ended") return;
    if (this.attempting) {
      this.again = true;
      return;
    }
    clearTimeout(this.retryTimer);
    this.tell(this.participant === null ? "connecting" : "interrupted", null);
    void this.attempt();
  }

  /** Puts another camera, microphone or screen in place without a new offer; null sends nothing. */
  async setTrack(medium: Medium, track: MediaStreamTrack | null): Promise<void> {
    this.tracks[medium] = track;
    await this.transceiver(this.peer, medium)?.sender.replaceTrack(track);
  }

  /** Leaves the meeting; resolves when the service knows, or cannot be told. */
  async close(): Promise<void> {
    const participant = this.participant;
    if (this.abandon() && participant !== null) await this.signalling.hangUp(participant).catch(() => undefined);
  }

  /** Ends what the service has ended already; true if it was still open here. */
  abandon(): boolean {
    if (this.closed) return false;
    this.closed = true;
    clearTimeout(this.retryTimer);
    this.discardPeer();
    this.closeRetired();
    return true;
  }

  private transceiver(peer: RTCPeerConnection | null, medium: Medium): RTCRtpTransceiver | undefined {
    return peer?.getTransceivers()[MEDIA.indexOf(medium)];
  }

  private async attempt(): Promise<void> {
    this.attempting = true;
    this.discardPeer();
    try {
      await this.negotiate();
    } catch (error) {
      this.attemptFailed(error);
    } finally {
      this.attempting = false;
    }
    if (this.again) {
      this.again = false;
      this.reoffer();
    }
  }

  private async negotiate(): Promise<void> {
    // Without TURN from the service the direct path still works: its failure must not keep anyone out.
    const iceServers = await this.signalling.iceServers().catch(() => []);
    if (this.closed) return;
    const peer = this.createPeer({ iceServers, bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    this.peer = peer;
    this.addMedia(peer);
    await peer.setLocalDescription();
    if (iceServers.length > 0) await gathered(peer, GATHER_MS); // the service is ICE-lite: only relays matter
    const answer = await this.signalling.offer(peer.localDescription?.sdp ?? "", this.participant);
    this.participant = answer.participant_id;
    if (this.closed) {
      void this.signalling.hangUp(answer.participant_id).catch(() => undefined);
      return;
    }
    if (peer !== this.peer) return;
    this.watch(peer, candidateOf(answer.sdp));
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    // Port 0 or inactive: a service that knows no slides, or a line without room for them.
    const agreed = this.transceiver(peer, "slides")?.currentDirection ?? "stopped";
    if (peer === this.peer && ["stopped", "inactive"].includes(agreed)) this.events.slides(null);
  }

  private addMedia(peer: RTCPeerConnection): void {
    const stream = new MediaStream();
    peer.addTransceiver(this.tracks.audio ?? "audio", { direction: "sendrecv", streams: [stream] });
    const video = peer.addTransceiver(this.tracks.video ?? "video", {
      direction: "sendrecv",
      streams: [stream],
      sendEncodings: [{ maxBitrate: VIDEO_CEILING_BPS }],
    });
    // From the start, so that a screen is shared without a new offer.
    const slides = peer.addTransceiver(this.tracks.slides ?? "video", {
      direction: "sendrecv",
      sendEncodings: [{ maxBitrate: SLIDES_CEILING_BPS }],
    });
    const codecs = orderVideoCodecs(RTCRtpReceiver.getCapabilities("video")?.codecs ?? []);
    if (codecs.length > 0) for (const picture of [video, slides]) picture.setCodecPreferences(codecs);
  }

  private watch(peer: RTCPeerConnection, candidate: string | null): void {
    const programme = new MediaStream();
    const show = () => {
      if (this.shown || peer !== this.peer) return;
      this.shown = true;
      this.events.programme(programme);
      this.closeRetired();
    };
    peer.ontrack = ({ track, transceiver }) => {
      if (transceiver === this.transceiver(peer, "slides")) {
        this.events.slides(new MediaStream([track]));
        return;
      }
      programme.addTrack(track);
      if (track.kind === "video") track.onunmute = show;
    };
    let measuring = false;
    const unreachable = () => this.lost(peer, { kind: "media-path", candidate });
    this.arm("connect", CONNECT_MS, unreachable);
    peer.onconnectionstatechange = () => {
      if (peer !== this.peer) return;
      this.disarm("disconnected");
      if (peer.connectionState === "connected") {
        this.disarm("connect");
        this.arm("first-frame", FIRST_FRAME_MS, show);
        this.failures = 0;
        this.tell("connected", null);
        if (!measuring) void this.measure(peer, new QualityMeter(), null);
        measuring = true;
      } else if (peer.connectionState === "failed") {
        unreachable();
      } else if (peer.connectionState === "disconnected") {
        this.arm("disconnected", DISCONNECTED_MS, () => this.lost(peer, null));
      }
    };
  }

  /** Reads the statistics once a second; nothing received for a while means that the other end is gone. */
  private async measure(
    peer: RTCPeerConnection,
    meter: QualityMeter,
    heard: { bytes: number; at: number } | null,
  ): Promise<void> {
    const now = performance.now();
    const quality = meter.read((await peer.getStats()).values(), now);
    if (peer !== this.peer) return;
    this.events.quality(quality);
    const latest = quality.bytesIn > (heard?.bytes ?? 0) ? { bytes: quality.bytesIn, at: now } : heard;
    if (latest !== null && now - latest.at > SILENCE_MS) this.lost(peer, null);
    else this.arm("measure", READ_MS, () => void this.measure(peer, meter, latest));
  }

  private lost(peer: RTCPeerConnection, trouble: Trouble | null): void {
    if (peer !== this.peer || this.closed) return;
    this.discardPeer();
    this.tell(this.state === "connecting" ? "connecting" : "interrupted", trouble);
    this.retry(0);
  }

  private attemptFailed(error: unknown): void {
    if (this.closed) return;
    this.discardPeer();
    const trouble: Trouble =
      error instanceof ApiProblem
        ? { kind: "service", problem: error }
        : { kind: "negotiation", message: error instanceof Error ? error.message : String(error) };
    if (trouble.kind === "service" && GONE_STATUSES.has(trouble.problem.status) && this.participant !== null) {
      // Away so long (a sleeping laptop) that our place was given up: the person did not leave, so join afresh.
      // A person whom the operator dropped is told so within this pause, and `close()` ends it.
      this.participant = null;
      this.tell("interrupted", null);
      this.retry(REJOIN_MS);
      return;
    }
    if (trouble.kind === "service" && FINAL_STATUSES.has(trouble.problem.status)) {
      this.closeRetired();
      this.tell("ended", trouble);
      return;
    }
    this.tell(this.participant === null ? "connecting" : "interrupted", trouble);
    this.retry(trouble.kind === "service" ? (trouble.problem.retryAfter ?? 1) * 1_000 : 1_000);
  }

  private retry(atLeastMs: number): void {
    const backoff = BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length - 1)] ?? 0;
    this.failures += 1;
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => void this.attempt(), Math.max(backoff, atLeastMs));
  }

  private discardPeer(): void {
    const peer = this.peer;
    this.peer = null;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    if (peer === null) return;
    peer.ontrack = null;
    peer.onconnectionstatechange = null;
    if (!this.shown) {
      peer.close();
      return;
    }
    this.shown = false;
    for (const sender of peer.getSenders()) void sender.replaceTrack(null).catch(() => undefined);
    this.closeRetired();
    this.retired = peer;
  }

  private closeRetired(): void {
    this.retired?.close();
    this.retired = null;
  }

  private tell(state: ConnectionState, trouble: Trouble | null): void {
    this.state = state;
    // Until there is media again the last known reason stays, so that the page can go on saying what to do.
    this.trouble = state === "connected" ? null : (trouble ?? this.trouble);
    this.events.state(state, this.trouble);
  }

  private arm(name: TimerName, milliseconds: number, then: () => void): void {
    this.disarm(name);
    this.timers.set(name, setTimeout(then, milliseconds));
  }

  private disarm(name: TimerName): void {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }
}
