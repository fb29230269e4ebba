// What the service says about a broadcast beside its picture.

export type BroadcastState = "waiting" | "live" | "ended";

export interface BroadcastInfo {
  title: string;
  state: BroadcastState;
  viewers: number;
  delay_seconds: number;
}

export type Answer = { kind: "info"; info: BroadcastInfo } | { kind: "unknown" } | { kind: "offline" };

const TIMEOUT = 8000;

export async function askInfo(base: string): Promise<Answer> {
  try {
    const response = await fetch(`${base}/info.json`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    if (response.status === 404) return { kind: "unknown" };
    if (!response.ok) return { kind: "offline" };
    return { kind: "info", info: (await response.json()) as BroadcastInfo };
  } catch {
    return { kind: "offline" };
  }
}
