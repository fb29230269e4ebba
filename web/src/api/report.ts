import { call } from "./http";

/** One direction of one medium; `outgoing` as the service sees it: true is towards the site. */
export interface Leg {
  participant_id: string;
  /** "slides" is a second picture. */
  kind: "audio" | "video" | "slides" | "other";
  outgoing: boolean;
  codec: string;
  bitrate_bps: number;
  packets: number;
  lost: number;
  jitter_ms: number;
  round_trip_ms: number | null;
  frames: number;
  width: number;
  height: number;
  source: string;
  /** Of an incoming picture: what the site was asked to keep to, and whether nobody is shown it. */
  granted_bps: number;
  held: boolean;
  /** Of incoming sound: 0 is full scale, -127 nothing or muted. */
  level_dbov: number | null;
  /** Of a main picture: how often it stood still, and for how many seconds in all. */
  freezes: number;
  frozen_seconds: number;
}

export interface Encoder {
  key: string;
  codec: string;
  width: number;
  height: number;
  bitrate_bps: number;
  receivers: number;
  reason: string;
}

/** IP bytes of one participant, headers included. */
export interface Wire {
  participant_id: string;
  sent_bytes: number;
  received_bytes: number;
  sent_last_second: number;
  received_last_second: number;
}

export interface Report {
  conference_id: string;
  worker_pid: number;
  legs: Leg[];
  encoders: Encoder[];
  wires: Wire[];
  speakers: string[];
  late_ticks: number;
}

export const readReport = (conferenceId: string) =>
  call<Report>("GET", `/conferences/${encodeURIComponent(conferenceId)}/report`);
