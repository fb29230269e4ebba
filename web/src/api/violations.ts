import { addressOf, call, queryOf } from "./http";
import type { Rule } from "./rules";

export const VIOLATION_STATES = ["open", "claimed", "confirmed", "dismissed"] as const;
export type ViolationState = (typeof VIOLATION_STATES)[number];
export type ClipState = "pending" | "ready" | "partial" | "missing";

export interface Violation {
  id: string;
  camera_id: string;
  camera_name: string;
  site_id: string;
  kind: string;
  rule_name: string;
  score: number;
  started_at: string;
  ended_at: string | null;
  state: ViolationState;
  clip_state: ClipState;
  clip_detail: string;
  snapshot: boolean;
  claimed_by: string | null;
  decided_by: string | null;
  decided_at: string | null;
  version: number;
}

/** Corners in 0..1 of the snapshot. */
export interface Box {
  label: string;
  score: number;
  x1: number;
  y1: number;
  x2: number;
  y2: number;
}

export interface ViolationDetail extends Violation {
  rule: Partial<Rule>;
  model: { name?: string; sha256?: string };
  boxes: Box[];
  snapshot_sha256: string | null;
  snapshot_detail: string;
  clip_sha256: string | null;
  /** Seconds into the clip at which it happened, where the service says so. */
  clip_moment?: number | null;
  log: { at: string; actor: string; event: string; comment: string }[];
}

export interface ViolationFilter {
  state: string;
  camera_id: string;
  kind: string;
  from: string;
  to: string;
}

export interface ViolationPage {
  items: Violation[];
  next: string | null;
}

export type ReviewAction = "claim" | "release" | "confirm" | "dismiss" | "comment";

export interface ViolationSummary {
  open: number;
  claimed: number;
  today: number;
  by_kind: Record<string, number>;
}

const at = (id: string) => `/violations/${encodeURIComponent(id)}`;

export const listViolations = (filter: Partial<ViolationFilter>, limit: number, after: string | null) =>
  call<ViolationPage>("GET", `/violations${queryOf({ ...filter, limit, after })}`);
export const readViolation = (id: string) => call<ViolationDetail>("GET", at(id));
export const readViolationSummary = () => call<ViolationSummary>("GET", "/violations/summary");
export const reviewViolation = (id: string, action: ReviewAction, version: number, comment: string) =>
  call<Violation>("POST", `${at(id)}/review`, {
    body: { action, version, ...(comment === "" ? {} : { comment }) },
  });
export const violationPicture = (id: string, boxes: boolean) =>
  addressOf(`${at(id)}/snapshot.jpg${boxes ? "" : "?boxes=0"}`);
export const violationClip = (id: string) => addressOf(`${at(id)}/clip.mp4`);
