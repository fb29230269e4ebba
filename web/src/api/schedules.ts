import { call } from "./http";

export type Repeat = "none" | "daily" | "weekly";
export type Lobby = "off" | "guests" | "all";
export type ScheduleState = "template" | "waiting" | "done" | "missed";

/** Who is to be called: an address, or a site by its SIP account, or both. */
export interface Planned {
  address: string | null;
  site_id: string | null;
  name: string | null;
  /** Shown full screen to all as soon as it is in. */
  on_screen: boolean;
}

/** What of a schedule a person decides. */
export interface ScheduleBody {
  title: string;
  host_site_id: string;
  number: string | null;
  /** Null is a template. */
  starts_at: string | null;
  duration_minutes: number;
  repeat: Repeat;
  participants: Planned[];
  auto_record: boolean;
  auto_dial: boolean;
  /** False: its end is announced only. */
  ends_by_itself: boolean;
  redials: number;
  /** Who waits outside, from the start, to be admitted. */
  lobby: Lobby;
}

export interface Schedule extends ScheduleBody {
  id: string;
  has_pin: boolean;
  state: ScheduleState;
  /** Why it was missed. */
  detail: string;
  /** The last meeting held after it. */
  conference_id: string | null;
  created_by: string;
  created_at: string;
  version: number;
}

export type NewSchedule = Omit<ScheduleBody, "host_site_id"> & { host_site_id?: string; pin?: string };
/** `version` is the one that was read: somebody else's change is not overwritten. */
export type ScheduleChange = Partial<Omit<ScheduleBody, "host_site_id">> & { pin?: string | null; version: number };

/** Until when a running meeting is to go on, and who of those planned is in (`participant_id`). */
export interface MeetingPlan {
  conference_id: string;
  schedule_id: string | null;
  ends_at: string;
  ends_by_itself: boolean;
  participants: (Planned & { participant_id: string | null })[];
}

const at = (id: string) => `/schedules/${encodeURIComponent(id)}`;
const meeting = (id: string) => `/conferences/${encodeURIComponent(id)}`;

export const listSchedules = () => call<Schedule[]>("GET", "/schedules");
export const createSchedule = (body: NewSchedule) => call<Schedule>("POST", "/schedules", { body });
export const changeSchedule = (id: string, body: ScheduleChange) => call<Schedule>("PATCH", at(id), { body });
export const removeSchedule = (id: string) => call<undefined>("DELETE", at(id));
export const openSchedule = (id: string) => call<{ conference_id: string; number: string }>("POST", `${at(id)}/open`);
export const readPlan = (conferenceId: string) => call<MeetingPlan>("GET", `${meeting(conferenceId)}/plan`);
export const extendMeeting = (conferenceId: string, minutes: number) =>
  call<MeetingPlan>("POST", `${meeting(conferenceId)}/extend`, { body: { minutes } });
