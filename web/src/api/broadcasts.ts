import { call } from "./http";

export interface Broadcast {
  id: string;
  name: string;
  title: string;
  kind: "conference" | "camera";
  subject: string;
  site_id: string;
  public: boolean;
  delay_seconds: number;
  /** Only for those who manage broadcasts. */
  push_url: string | null;
  started_by: string;
  started_at: string;
  stopped_at: string | null;
  state: string;
  detail: string;
  viewers: number;
  latency: number;
  push_state: string;
  push_detail: string;
  watch_url: string;
  playlist_url: string;
}

export interface NewBroadcast {
  kind: "conference" | "camera";
  subject: string;
  title?: string;
  public: boolean;
  delay_seconds: number;
  push_url?: string;
}

export type BroadcastChange = Partial<Pick<NewBroadcast, "title" | "delay_seconds" | "push_url">>;

const at = (id: string) => `/broadcasts/${encodeURIComponent(id)}`;

export const listBroadcasts = () => call<Broadcast[]>("GET", "/broadcasts");
export const startBroadcast = (body: NewBroadcast) => call<Broadcast>("POST", "/broadcasts", { body });
export const changeBroadcast = (id: string, body: BroadcastChange) => call<Broadcast>("PATCH", at(id), { body });
export const stopBroadcast = (id: string) => call<undefined>("DELETE", at(id));
