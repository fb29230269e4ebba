/** Sounds that an operator plays into a meeting. */

import { call } from "./http";

const at = (id: string) => `/conferences/${encodeURIComponent(id)}/announcements`;

/** The sounds there are; none while nobody is in the meeting. */
export const listAnnouncements = (id: string) => call<string[]>("GET", at(id));
/** Once, to everybody or to one. */
export const announce = (id: string, sound: string, participantId: string | null) =>
  call<undefined>("POST", at(id), { body: { sound, participant_id: participantId } });
export const stopAnnouncing = (id: string) => call<undefined>("DELETE", at(id));
