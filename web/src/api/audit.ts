import { call } from "./http";

/** A link of the audit chain. */
export interface AuditRow {
  sequence: number;
  at: string;
  actor: string;
  action: string;
  subject: string;
  outcome: string;
  address: string;
  detail: unknown;
  hash?: string;
}

/** Rows after the given sequence number, oldest first; the service decides how many at once. */
export const readAudit = (after: number) => call<AuditRow[]>("GET", `/audit?after=${after}`);
