import { call } from "./http";

export interface Site {
  id: string;
  parent_id: string | null;
  name: string;
  kind: string;
  conference_budget_bps: number;
  access_capacity_bps: number;
}

/** A site stays where it is in the tree: its links and grants hang on that. */
export type SiteChange = Partial<Omit<Site, "id" | "parent_id">>;

export const listSites = () => call<Site[]>("GET", "/sites");
export const createSite = (body: Site) => call<Site>("POST", "/sites", { body });
export const changeSite = (id: string, body: SiteChange) =>
  call<Site>("PATCH", `/sites/${encodeURIComponent(id)}`, { body });
