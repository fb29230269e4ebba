/** Connection quality from two readings of RTCPeerConnection.getStats(), a second or so apart. */

export type QualityLevel = "unknown" | "good" | "fair" | "poor";

/** Rates in bit/s, times in ms, losses as fractions of 1; null where nothing is known yet. */
export interface Quality {
  level: QualityLevel;
  roundTripMs: number | null;
  jitterMs: number | null;
  lossIn: number | null;
  lossOut: number | null;
  rateIn: number;
  rateOut: number;
  framesPerSecond: number;
  width: number;
  height: number;
  codecIn: string;
  codecOut: string;
  sentWidth: number;
  sentHeight: number;
  /** Bytes that came since the connection began, RTCP with them; stands still when the other end is gone. */
  bytesIn: number;
  /** Pictures decoded since the connection began. */
  framesIn: number;
}

/** The members of the W3C webrtc-stats dictionaries that are read here. */
interface Stat {
  id: string;
  type: string;
  kind?: string;
  codecId?: string;
  /** Which section of the description it belongs to. */
  mid?: string;
  mimeType?: string;
  nominated?: boolean;
  state?: string;
  currentRoundTripTime?: number;
  roundTripTime?: number;
  fractionLost?: number;
  jitter?: number;
  packetsReceived?: number;
  packetsLost?: number;
  bytesReceived?: number;
  bytesSent?: number;
  framesDecoded?: number;
  frameWidth?: number;
  frameHeight?: number;
}

interface Totals {
  at: number;
  bytesIn: number;
  bytesOut: number;
  received: number;
  lost: number;
  frames: number;
}

export function levelOf(loss: number | null, roundTripMs: number | null): QualityLevel {
  if (loss === null && roundTripMs === null) return "unknown";
  if ((loss ?? 0) > 0.08 || (roundTripMs ?? 0) > 800) return "poor";
  if ((loss ?? 0) > 0.02 || (roundTripMs ?? 0) > 300) return "fair";
  return "good";
}

const larger = (a: number | null, b: number | null) => (a === null ? b : b === null ? a : Math.max(a, b));
const sum = (stats: Stat[], member: keyof Stat) => stats.reduce((total, stat) => total + Number(stat[member] ?? 0), 0);

/** The first of the pictures by their sections: the second one is slides. */
const mainPicture = (stats: Stat[]) =>
  stats
    .filter((stat) => stat.kind === "video")
    .sort((a, b) => Number(a.mid ?? 0) - Number(b.mid ?? 0))
    .at(0);

/** One for each peer connection: counters begin at zero with it. */
export class QualityMeter {
  private last: Totals | null = null;
  private readonly recent: { received: number; lost: number }[] = [];

  /** `entries` as of `now` (ms). Loss is over the last five readings, so that one bad second does not flicker. */
  read(entries: Iterable<unknown>, now: number): Quality {
    const stats = [...entries] as Stat[];
    const codecName = (stat: Stat | undefined) =>
      (stats.find((other) => other.id === stat?.codecId)?.mimeType ?? "").replace(/^\w+\//, "");
    const inbound = stats.filter((stat) => stat.type === "inbound-rtp");
    const outbound = stats.filter((stat) => stat.type === "outbound-rtp");
    const remote = stats.filter((stat) => stat.type === "remote-inbound-rtp");
    const pair = stats.find((stat) => stat.type === "candidate-pair" && stat.nominated && stat.state === "succeeded");
    const picture = mainPicture(inbound);
    const ours = mainPicture(outbound);
    const totals: Totals = {
      at: now,
      bytesIn: sum(inbound, "bytesReceived"),
      bytesOut: sum(outbound, "bytesSent"),
      received: sum(inbound, "packetsReceived"),
      lost: sum(inbound, "packetsLost"),
      frames: picture?.framesDecoded ?? 0,
    };
    const last = this.last;
    this.last = totals;
    const seconds = last === null ? 0 : (now - last.at) / 1000;
    const rate = (current: number, before: number) => (seconds > 0 ? Math.max(0, current - before) / seconds : 0);
    const lossIn = last === null ? null : this.lossOver(totals.received - last.received, totals.lost - last.lost);
    const lossOut = remote.reduce<number | null>((worst, stat) => larger(worst, stat.fractionLost ?? null), null);
    const roundTrip =
      pair?.currentRoundTripTime ?? remote.find((stat) => stat.roundTripTime !== undefined)?.roundTripTime;
    const roundTripMs = roundTrip === undefined ? null : roundTrip * 1000;
    return {
      level: last === null ? "unknown" : levelOf(larger(lossIn, lossOut), roundTripMs),
      roundTripMs,
      jitterMs: inbound.length === 0 ? null : Math.max(...inbound.map((stat) => stat.jitter ?? 0)) * 1000,
      lossIn,
      lossOut,
      rateIn: rate(totals.bytesIn, last?.bytesIn ?? 0) * 8,
      rateOut: rate(totals.bytesOut, last?.bytesOut ?? 0) * 8,
      framesPerSecond: rate(totals.frames, last?.frames ?? 0),
      width: picture?.frameWidth ?? 0,
      height: picture?.frameHeight ?? 0,
      codecIn: codecName(picture),
      codecOut: codecName(ours),
      sentWidth: ours?.frameWidth ?? 0,
      sentHeight: ours?.frameHeight ?? 0,
      bytesIn: pair?.bytesReceived ?? totals.bytesIn,
      framesIn: totals.frames,
    };
  }

  private lossOver(received: number, lost: number): number | null {
    this.recent.push({ received: Math.max(0, received), lost: Math.max(0, lost) });
    if (this.recent.length > 5) this.recent.shift();
    const all = this.recent.reduce((total, reading) => total + reading.received + reading.lost, 0);
    if (all === 0) return null;
    return this.recent.reduce((total, reading) => total + reading.lost, 0) / all;
  }
}
