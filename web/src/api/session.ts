import { call } from "./http";

/** The six roles of an account, and the guest of one meeting. */
export const ROLES = ["system-admin", "security-admin", "auditor", "operator", "monitor", "viewer"] as const;
export type Role = (typeof ROLES)[number] | "guest";

export interface SessionUser {
  id: string;
  name: string;
  display_name: string;
  roles: string[];
  site_id: string | null;
}

export interface Session {
  csrf: string;
  user: SessionUser;
  /** Only a guest's: the one meeting it may join. */
  conference_id?: string | null;
}

export const readSession = () => call<Session>("GET", "/session", { signingIn: true });
export const signIn = (name: string, password: string) =>
  call<Session>("POST", "/session", { body: { name, password }, signingIn: true });
export const signInAsGuest = (number: string, pin: string, name: string) =>
  call<Session>("POST", "/guest-session", { body: { number, pin, name }, signingIn: true });
export const signOut = () => call<undefined>("DELETE", "/session", { signingIn: true });
