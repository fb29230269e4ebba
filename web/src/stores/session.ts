/** Who is signed in, and what the roles let the pages show. The service decides; this only hides what it refuses. */

import { computed, readonly, ref } from "vue";

import { setCsrfToken } from "@/api/http";
import * as api from "@/api/session";
import type { Role, Session } from "@/api/session";

import { remembered } from "./remembered";

export type Permission =
  | "meetings"
  | "create-meeting"
  | "operate"
  | "join"
  | "cameras"
  | "watch-cameras"
  | "control-cameras"
  | "edit-cameras"
  | "violations"
  | "recordings"
  | "export-recordings"
  | "broadcasts"
  | "view-system"
  | "sites"
  | "edit-sites"
  | "users"
  | "audit";

const GRANTS: Record<Role, readonly Permission[]> = {
  "system-admin": ["cameras", "edit-cameras", "sites", "edit-sites"],
  "security-admin": ["users", "sites"],
  auditor: ["audit"],
  operator: [
    "meetings",
    "create-meeting",
    "operate",
    "join",
    "cameras",
    "watch-cameras",
    "broadcasts",
    "recordings",
    "view-system",
    "sites",
  ],
  monitor: [
    "meetings",
    "join",
    "cameras",
    "watch-cameras",
    "control-cameras",
    "violations",
    "recordings",
    "export-recordings",
    "sites",
  ],
  viewer: ["meetings", "join", "recordings", "sites"],
  guest: ["join"],
};

export function permissionsOf(roles: readonly string[]): Set<Permission> {
  return new Set(roles.flatMap((role) => GRANTS[role as Role] ?? []));
}

const POWERS = ["system-admin", "security-admin", "auditor"];

/** Whether an account may not hold these together: the three powers are separate, and nothing stands beside one. */
export function rolesConflict(roles: readonly string[]): boolean {
  return roles.length > 1 && roles.some((role) => POWERS.includes(role));
}

const session = ref<Session | null>(null);
let loading: Promise<void> | null = null;

/** A guest's meeting outlives a reload of the page, whether or not the service repeats it. */
const guestMeeting = remembered<string | null>("anshi.guest-meeting", null);

function take(next: Session | null): void {
  const guest = next?.user.roles.includes("guest") ?? false;
  guestMeeting.value = guest ? (next?.conference_id ?? guestMeeting.value) : null;
  session.value = next !== null && guestMeeting.value !== null ? { ...next, conference_id: guestMeeting.value } : next;
  setCsrfToken(next?.csrf ?? null);
}

/** Reads the session that the cookie stands for, once; no session is no error. */
function restore(): Promise<void> {
  loading ??= api.readSession().then(take, () => take(null));
  return loading;
}

export function useSession() {
  const permissions = computed(() => permissionsOf(session.value?.user.roles ?? []));
  return {
    session: readonly(session),
    permissions,
    may: (permission: Permission) => permissions.value.has(permission),
    isGuest: computed(() => session.value?.user.roles.includes("guest") ?? false),
    restore,
    forget: () => take(null),
    signIn: async (name: string, password: string) => take(await api.signIn(name, password)),
    signInAsGuest: async (number: string, pin: string, name: string) =>
      take(await api.signInAsGuest(number, pin, name)),
    signOut: async () => {
      try {
        await api.signOut();
      } finally {
        take(null);
      }
    },
  };
}
