/**
 * One camera on a page, by WHEP: a recvonly RTCPeerConnection that mends itself.
 *
 * Lifecycle: `start()` offers; when the path fails, nothing arrives for a while or the service has no room, it
 * offers anew with back-off, and a refusal that will not pass by itself ends it ("refused"). `close()` frees the
 * place. The last picture stays on the screen until there is a new one.
 */

import { ApiProblem } from "@/api/problem";

import { orderVideoCodecs } from "./codecs";
import { gathered } from "./gathering";
import { QualityMeter } from "./quality";

/** "stalled": the connection is there and the camera sends no picture. */
export type ViewState = "connecting" | "live" | "stalled" | "interrupted" | "refused";

/** What the view asks of the service; bound to one camera. */
export interface ViewSignalling {
  iceServers(): Promise<RTCIceServer[]>;
  offer(sdp: string): Promise<{ sdp: string; location: string }>;
  stop(location: string): Promise<unknown>;
}

export interface ViewEvents {
  state(state: ViewState, problem: ApiProblem | null): void;
  stream(stream: MediaStream): void;
}

const GATHER_MS = 1_500;
const CONNECT_MS = 10_000;
const DISCONNECTED_MS = 3_000;
const READ_MS = 1_000;
const STALLED_MS = 5_000;
const SILENCE_MS = 12_000;
const BACKOFF_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const FINAL_STATUSES = new Set([400, 401, 403, 404, 410, 415, 422]);

interface Progress {
  bytes: number;
  bytesAt: number;
  frames: number;
  framesAt: number;
}

export class CameraView {
  private peer: RTCPeerConnection | null = null;
  private location: string | null = null;
  private failures = 0;
  private closed = false;
  private state: ViewState = "connecting";
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  /** Timers that end with the peer connection they belong to. */
  private readonly timers = new Map<"connect" | "measure" | "disconnected", ReturnType<typeof setTimeout>>();

  constructor(
    private readonly signalling: ViewSignalling,
    private readonly events: ViewEvents,
    private readonly createPeer = (configuration: RTCConfiguration) => new RTCPeerConnection(configuration),
  ) {}

  start(): void {
    void this.attempt();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.retryTimer);
    this.discard();
  }

  private async attempt(): Promise<void> {
    try {
      await this.negotiate();
    } catch (error) {
      if (this.closed) return;
      const problem = error instanceof ApiProblem ? error : new ApiProblem(-1, { detail: String(error) });
      this.discard();
      if (FINAL_STATUSES.has(problem.status)) this.tell("refused", problem);
      else this.retry(problem);
    }
  }

  private async negotiate(): Promise<void> {
    const iceServers = await this.signalling.iceServers().catch(() => []);
    if (this.closed) return;
    const peer = this.createPeer({ iceServers, bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    this.peer = peer;
    peer.addTransceiver("audio", { direction: "recvonly" });
    const video = peer.addTransceiver("video", { direction: "recvonly" });
    const codecs = orderVideoCodecs(RTCRtpReceiver.getCapabilities("video")?.codecs ?? []);
    if (codecs.length > 0) video.setCodecPreferences(codecs);
    await peer.setLocalDescription();
    if (iceServers.length > 0) await gathered(peer, GATHER_MS); // the service is ICE-lite: only relays matter
    const answer = await this.signalling.offer(peer.localDescription?.sdp ?? "");
    if (this.closed || peer !== this.peer) {
      void this.signalling.stop(answer.location).catch(() => undefined);
      return;
    }
    this.location = answer.location;
    this.watch(peer);
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  }

  private watch(peer: RTCPeerConnection): void {
    const stream = new MediaStream();
    peer.ontrack = ({ track }) => {
      stream.addTrack(track);
      if (track.kind === "video") track.onunmute = () => peer === this.peer && this.events.stream(stream);
    };
    this.arm("connect", CONNECT_MS, () => this.lost(peer));
    peer.onconnectionstatechange = () => {
      if (peer !== this.peer) return;
      this.disarm("disconnected");
      if (peer.connectionState === "connected" && this.timers.has("connect")) {
        this.disarm("connect");
        const now = performance.now();
        const progress = { bytes: 0, bytesAt: now, frames: 0, framesAt: now };
        void this.measure(peer, new QualityMeter(), progress);
      } else if (peer.connectionState === "failed") {
        this.lost(peer);
      } else if (peer.connectionState === "disconnected") {
        this.arm("disconnected", DISCONNECTED_MS, () => this.lost(peer));
      }
    };
  }

  /** Once a second: are there pictures, is there anything at all? */
  private async measure(peer: RTCPeerConnection, meter: QualityMeter, last: Progress): Promise<void> {
    const now = performance.now();
    const quality = meter.read((await peer.getStats()).values(), now);
    if (peer !== this.peer) return;
    const next: Progress = {
      bytes: quality.bytesIn,
      bytesAt: quality.bytesIn > last.bytes ? now : last.bytesAt,
      frames: quality.framesIn,
      framesAt: quality.framesIn > last.frames ? now : last.framesAt,
    };
    if (now - next.bytesAt > SILENCE_MS) {
      this.lost(peer);
      return;
    }
    if (next.frames > last.frames) {
      this.failures = 0;
      if (this.state !== "live") this.tell("live", null);
    } else if (now - next.framesAt > STALLED_MS && this.state !== "stalled") {
      this.tell("stalled", null);
    }
    this.arm("measure", READ_MS, () => void this.measure(peer, meter, next));
  }

  private lost(peer: RTCPeerConnection): void {
    if (peer !== this.peer || this.closed) return;
    this.discard();
    this.retry(null);
  }

  private retry(problem: ApiProblem | null): void {
    const backoff = BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length - 1)] ?? 0;
    this.failures += 1;
    this.tell("interrupted", problem);
    const wait = Math.max(backoff, (problem?.retryAfter ?? 0) * 1_000);
    this.retryTimer = setTimeout(() => void this.attempt(), wait);
  }

  private discard(): void {
    const { peer, location } = this;
    this.peer = null;
    this.location = null;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    if (location !== null) void this.signalling.stop(location).catch(() => undefined);
    if (peer === null) return;
    peer.ontrack = null;
    peer.onconnectionstatechange = null;
    peer.close();
  }

  private tell(state: ViewState, problem: ApiProblem | null): void {
    this.state = state;
    this.events.state(state, problem);
  }

  private arm(name: "connect" | "measure" | "disconnected", milliseconds: number, then: () => void): void {
    this.disarm(name);
    this.timers.set(name, setTimeout(then, milliseconds));
  }

  private disarm(name: "connect" | "measure" | "disconnected"): void {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }
}
