import { call } from "./http";

export interface Picture {
  mode: "mosaic" | "full-screen";
  participant_id: string | null;
}

export interface Conference {
  id: string;
  number: string;
  title: string;
  state: "running" | "ended";
  host_site_id: string | null;
  picture: Picture;
  participant_count: number;
  has_pin: boolean;
  created_at: string;
  ended_at: string | null;
}

export interface NewConference {
  title: string;
  number?: string;
  host_site_id?: string;
  pin?: string;
}

export type Command =
  | { command: "mosaic" | "mute-all" | "end" }
  | { command: "full-screen" | "mute" | "unmute"; participant_id: string };

const at = (id: string) => `/conferences/${encodeURIComponent(id)}`;

export const listConferences = () => call<Conference[]>("GET", "/conferences");
export const readConference = (id: string) => call<Conference>("GET", at(id));
export const createConference = (body: NewConference) => call<Conference>("POST", "/conferences", { body });
export const endConference = (id: string) => call<undefined>("DELETE", at(id));
export const commandConference = (id: string, body: Command) => call<unknown>("POST", `${at(id)}/commands`, { body });
