import { call } from "./http";

export type Point = [x: number, y: number];

/** Days are 0 (Monday) to 6; `to` "24:00" is the end of the day. */
export interface Hours {
  days: number[];
  from: string;
  to: string;
}

export interface Rule {
  id: string;
  camera_id: string;
  kind: string;
  name: string;
  zone: Point[];
  parameters: Record<string, number>;
  schedule: Hours[];
  enabled: boolean;
}

export type RuleBody = Omit<Rule, "id" | "camera_id">;

export interface RuleParameter {
  name: string;
  default: number;
  min: number;
  max: number;
  unit: string;
}

export interface RuleKind {
  kind: string;
  needs_zone: boolean;
  parameters: RuleParameter[];
}

export interface Analysis {
  camera_id: string;
  state: "waiting" | "watching" | "overloaded" | "failed";
  detail: string;
  samples: number;
  inferences: number;
  wanted_rate: number;
  achieved_rate: number;
  last_sample_ago: number | null;
  persons: number;
  model: string | { name: string; sha256: string };
}

const ofCamera = (id: string) => `/cameras/${encodeURIComponent(id)}`;
const at = (id: string) => `/rules/${encodeURIComponent(id)}`;

export const listRuleKinds = () => call<RuleKind[]>("GET", "/rule-kinds");
export const listRules = (cameraId: string) => call<Rule[]>("GET", `${ofCamera(cameraId)}/rules`);
export const createRule = (cameraId: string, body: RuleBody) =>
  call<Rule>("POST", `${ofCamera(cameraId)}/rules`, { body });
export const changeRule = (id: string, body: Partial<RuleBody>) => call<Rule>("PATCH", at(id), { body });
export const removeRule = (id: string) => call<undefined>("DELETE", at(id));
export const readAnalysis = (cameraId: string) => call<Analysis>("GET", `${ofCamera(cameraId)}/analysis`);
