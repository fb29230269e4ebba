import { call } from "./http";

export interface Budget {
  to_site_bps: number;
  from_site_bps: number;
}

export type ParticipantState = "calling" | "connected" | "silent" | "left";

export interface Participant {
  id: string;
  name: string;
  site_id: string | null;
  address: string;
  network: string | null;
  state: ParticipantState;
  muted: boolean;
  /** Null for one who was never admitted. */
  budget: Budget | null;
  joined_at: string | null;
  left_at: string | null;
  reason: string | null;
}

export interface Invitation {
  address: string;
  site_id?: string;
  name?: string;
}

const at = (conferenceId: string, id?: string) => {
  const all = `/conferences/${encodeURIComponent(conferenceId)}/participants`;
  return id === undefined ? all : `${all}/${encodeURIComponent(id)}`;
};

export const listParticipants = (conferenceId: string) => call<Participant[]>("GET", at(conferenceId));
export const inviteParticipant = (conferenceId: string, body: Invitation) =>
  call<Participant>("POST", at(conferenceId), { body });
export const changeParticipant = (conferenceId: string, id: string, body: { muted?: boolean; budget?: Budget }) =>
  call<Participant>("PATCH", at(conferenceId, id), { body });
export const dropParticipant = (conferenceId: string, id: string) => call<undefined>("DELETE", at(conferenceId, id));
