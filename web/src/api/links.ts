import { call } from "./http";

export interface Link {
  id: string;
  upper_site_id: string;
  lower_site_id: string;
  capacity_bps: number;
  carried_bps: number;
}

export const listLinks = () => call<Link[]>("GET", "/links");
export const createLink = (body: { upper_site_id: string; lower_site_id: string; capacity_bps: number }) =>
  call<Link>("POST", "/links", { body });
export const changeLink = (id: string, body: { capacity_bps: number }) =>
  call<Link>("PATCH", `/links/${encodeURIComponent(id)}`, { body });
