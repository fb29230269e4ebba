/** What a meeting's report says about each participant, ready to show. Pure. */

import type { Leg, Report, Wire } from "@/api/report";

import { lossOf } from "./format";

/** One direction of a participant's picture, and the worst of its sound and picture. */
export interface Side {
  codec: string;
  rateBps: number;
  loss: number | null;
  jitterMs: number | null;
  width: number;
  height: number;
  framesPerSecond: number | null;
}

export interface ParticipantQuality {
  /** Site -> meeting, measured here. */
  from: Side | null;
  /** Meeting -> site, as the site's receiver reports say. */
  to: Side | null;
  roundTripMs: number | null;
  /** How loud the site is. */
  levelDbov: number | null;
  /** IP bits in the last whole second. */
  wireFromBps: number | null;
  wireToBps: number | null;
  legs: Leg[];
  /** Frames a second of those legs that had some before. */
  rates: Map<Leg, number>;
}

export interface TimedReport {
  report: Report;
  /** When it was read, ms. */
  at: number;
}

const keyOf = (leg: Leg) => `${leg.participant_id} ${leg.kind} ${leg.outgoing} ${leg.codec}`;

/** Frames a second of each leg, from two reports; a counter that fell (a new worker) tells nothing. */
export function frameRates(previous: TimedReport | null, current: TimedReport): Map<Leg, number> {
  const rates = new Map<Leg, number>();
  if (previous === null || current.at <= previous.at) return rates;
  const before = new Map(previous.report.legs.map((leg) => [keyOf(leg), leg.frames]));
  for (const leg of current.report.legs) {
    const frames = before.get(keyOf(leg));
    if (frames !== undefined && leg.frames >= frames) {
      rates.set(leg, ((leg.frames - frames) * 1000) / (current.at - previous.at));
    }
  }
  return rates;
}

const worst = (values: (number | null)[]) =>
  values.reduce<number | null>((most, value) => (value === null ? most : Math.max(most ?? 0, value)), null);

function sideOf(legs: Leg[], rates: Map<Leg, number>): Side | null {
  const first = legs[0];
  if (first === undefined) return null;
  const picture = legs.find((leg) => leg.kind === "video");
  return {
    codec: (picture ?? first).codec,
    rateBps: legs.reduce((total, leg) => total + leg.bitrate_bps, 0),
    loss: worst(legs.map((leg) => lossOf(leg.packets, leg.lost))),
    jitterMs: worst(legs.map((leg) => leg.jitter_ms)),
    width: picture?.width ?? 0,
    height: picture?.height ?? 0,
    framesPerSecond: picture === undefined ? null : (rates.get(picture) ?? null),
  };
}

export function qualityByParticipant(report: Report | null, rates: Map<Leg, number>): Map<string, ParticipantQuality> {
  const result = new Map<string, ParticipantQuality>();
  if (report === null) return result;
  const wires = new Map<string, Wire>(report.wires.map((wire) => [wire.participant_id, wire]));
  const ids = new Set([...report.legs.map((leg) => leg.participant_id), ...wires.keys()]);
  for (const id of ids) {
    const legs = report.legs.filter((leg) => leg.participant_id === id);
    const wire = wires.get(id);
    result.set(id, {
      from: sideOf(
        legs.filter((leg) => !leg.outgoing),
        rates,
      ),
      to: sideOf(
        legs.filter((leg) => leg.outgoing),
        rates,
      ),
      levelDbov: legs.find((leg) => leg.kind === "audio" && !leg.outgoing)?.level_dbov ?? null,
      roundTripMs: worst(legs.map((leg) => leg.round_trip_ms)),
      wireFromBps: wire === undefined ? null : wire.received_last_second * 8,
      wireToBps: wire === undefined ? null : wire.sent_last_second * 8,
      legs,
      rates,
    });
  }
  return result;
}
