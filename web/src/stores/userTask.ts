import type { User } from "@/api/users";

/** What the user dialog is open for. */
export type UserTask = { what: "create" } | { what: "roles" | "password"; user: User };
