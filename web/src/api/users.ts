import { call } from "./http";

export interface User {
  id: string;
  name: string;
  display_name: string;
  roles: string[];
  site_id: string | null;
  disabled: boolean;
}

export interface NewUser {
  name: string;
  display_name: string;
  password: string;
  roles: string[];
  site_id: string;
}

export interface UserChange {
  password?: string;
  roles?: string[];
  disabled?: boolean;
}

export const listUsers = () => call<User[]>("GET", "/users");
export const createUser = (body: NewUser) => call<User>("POST", "/users", { body });
export const changeUser = (id: string, body: UserChange) =>
  call<User>("PATCH", `/users/${encodeURIComponent(id)}`, { body });
