import { addressOf, call, queryOf } from "./http";

export type RecordedKind = "camera" | "conference";

export interface Recording {
  id: string;
  kind: RecordedKind;
  subject: string;
  subject_name: string;
  site_id: string;
  started_at: string;
  ended_at: string | null;
  /** "open" is being written; "mended" was closed after a crash; of "lost" nothing is there. */
  state: string;
  bytes: number;
  seconds: number;
  width: number;
  height: number;
  codecs: string;
}

export interface RecordingStatus {
  state: "waiting" | "recording" | "failed" | "unknown";
  detail: string;
}

export interface Subject {
  kind: RecordedKind;
  subject: string;
  name: string;
  site_id: string;
  first: string | null;
  last: string | null;
  bytes: number;
  /** Null while nothing of it is being recorded. */
  recording: RecordingStatus | null;
}

interface RecordingPage {
  items: Recording[];
  next: string | null;
}

export interface Span {
  kind: RecordedKind;
  subject: string;
  from: string;
  to: string;
}

/** Of what the recorder says of itself: its disk. */
export interface RecorderReport {
  free_bytes: number;
  total_bytes: number;
}

const PAGE = 500;
const at = (id: string) => `/recordings/${encodeURIComponent(id)}`;

export const listSubjects = () => call<Subject[]>("GET", "/recordings/subjects");

/** Every file that touches the span, oldest first. */
export async function listRecordings(span: Span): Promise<Recording[]> {
  const all: Recording[] = [];
  let after: string | null = null;
  do {
    const query = queryOf({ ...span, limit: PAGE, after });
    const page: RecordingPage = await call<RecordingPage>("GET", `/recordings${query}`);
    all.push(...page.items);
    after = page.items.length === 0 ? null : page.next;
  } while (after !== null);
  return all.sort((a, b) => a.started_at.localeCompare(b.started_at));
}

export const readRecorderReport = () => call<RecorderReport>("GET", "/recordings/report");
export const removeRecording = (id: string) => call<undefined>("DELETE", at(id));
export const playlistAddress = (span: Span) =>
  addressOf(
    `/recordings/playlist.m3u8${queryOf({ kind: span.kind, subject: span.subject, from: span.from, to: span.to })}`,
  );
export const downloadAddress = (id: string) => addressOf(`${at(id)}/file.mp4?download=1`);

const ofConference = (id: string) => `/conferences/${encodeURIComponent(id)}/recording`;

export interface ConferenceRecording {
  on: boolean;
  state?: string | null;
  detail?: string | null;
}

export const readConferenceRecording = (id: string) => call<ConferenceRecording>("GET", ofConference(id));
export const recordConference = (id: string, on: boolean) => call<unknown>("PUT", ofConference(id), { body: { on } });
