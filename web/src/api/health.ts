import { call } from "./http";

export interface Health {
  status: "ok" | "degraded";
  version: string;
  node: { id: string; name: string; level: string };
  workers: { name: string; pid: number; state: string }[];
}

export const readHealth = () => call<Health>("GET", "/health", { signingIn: true });
