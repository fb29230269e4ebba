import type { Picture } from "./conferences";
import { call } from "./http";

export type Mode = "free" | "broadcast" | "lecture" | "polling" | "roll-call";
export type Lobby = "off" | "guests" | "all";
export type Mark = "waiting" | "called" | "present" | "absent";

export interface Wish {
  participant_id: string;
  at: string;
}

export interface Polling {
  interval: number;
  order: string[];
  size: number;
  audience: "all" | "chair";
  shown: string[];
}

export interface RollCallEntry {
  participant_id: string;
  name: string;
  site_id: string | null;
  mark: Mark;
  called_at: string | null;
  marked_at: string | null;
  marked_by: string | null;
}

export interface RollCall {
  id: string;
  started_by: string;
  started_at: string;
  ended_at: string | null;
  entries: RollCallEntry[];
}

/** One decision: the version that it made, and whose it was. */
export interface Change {
  version: number;
  command: string;
  by: string;
  at: string;
  participant_id: string | null;
}

export interface Control {
  version: number;
  mode: Mode;
  picture: Picture;
  page: string[];
  layout: string;
  subject: string | null;
  chair: string | null;
  chair_wishes: Wish[];
  floor: string | null;
  floor_wishes: Wish[];
  polling: Polling | null;
  roll_call: RollCall | null;
  selected: Record<string, string>;
  self_select: boolean;
  deafened: string[];
  cameras_off: string[];
  without_self: string[];
  gains_db: Record<string, number>;
  locked: boolean;
  lobby: Lobby;
  waiting: Wish[];
  banner: string;
  banner_everywhere: boolean;
  /** Who presents: its second picture goes to all. */
  slides: string | null;
  /** Else only the chair may present. */
  slides_allowed: boolean;
  changes: Change[];
}

/** Which of the values a command looks at is the service's to say. */
export interface Order {
  command: string;
  participant_id?: string;
  target_id?: string;
  on?: boolean;
  mark?: Mark;
  order?: string[];
  interval?: number;
  size?: number;
  audience?: Polling["audience"];
  lobby?: Lobby;
  text?: string;
  layout?: string;
  decibels?: number;
  version?: number;
}

const at = (id: string) => `/conferences/${encodeURIComponent(id)}`;

export const readControl = (id: string) => call<Control>("GET", `${at(id)}/control`);
export const orderConference = (id: string, body: Order) => call<undefined>("POST", `${at(id)}/commands`, { body });
export const listRollCalls = (id: string) => call<RollCall[]>("GET", `${at(id)}/roll-calls`);
/** As a participant of this browser. */
export const orderAs = (id: string, participantId: string, body: Order) =>
  call<undefined>("POST", `${at(id)}/participants/${encodeURIComponent(participantId)}/commands`, { body });
