import { readText } from "./http";

export type MinutesForm = "html" | "csv";

/** The minutes of a meeting, running or over, in the language of the page. */
export const readMinutes = (conferenceId: string, form: MinutesForm) =>
  readText(`/conferences/${encodeURIComponent(conferenceId)}/minutes.${form}`);
