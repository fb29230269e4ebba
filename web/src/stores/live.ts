/**
 * Live events of the service: one WebSocket for all pages.
 *
 * An event only says that rows changed, so a lost one costs latency, nothing else: after every gap the
 * listeners get "Resync" and read again, and while there is no socket they get one every few seconds.
 */

import { onScopeDispose, readonly, ref } from "vue";

export interface LiveEvent {
  type: string;
  conference_id?: string;
  participant_id?: string;
  participant_ids?: string[];
  state?: string;
  camera_id?: string;
  site_id?: string;
  fault?: string;
  kind?: string;
  subject?: string;
  cause?: string;
  detail?: string;
  violation_id?: string;
  broadcast_id?: string;
}

type Listener = (event: LiveEvent) => void;

const POLL_MS = 4_000;
const RECONNECT_MS = [500, 1_000, 2_000, 4_000, 8_000];
const RESYNC: LiveEvent = { type: "Resync" };

export class LiveEvents {
  private readonly listeners = new Set<Listener>();
  private socket: WebSocket | null = null;
  private failures = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pollTimer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly open: () => WebSocket,
    private readonly tellOnline: (online: boolean) => void = () => undefined,
  ) {}

  /** Listens until the returned function is called; the socket lives while anyone listens. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    if (this.listeners.size === 1) this.connect();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.disconnect();
    };
  }

  private connect(): void {
    const socket = this.open();
    this.socket = socket;
    socket.onopen = () => {
      this.failures = 0;
      this.setOnline(true);
      this.emit(RESYNC);
    };
    socket.onmessage = ({ data }) => {
      const event = parseLiveEvent(data);
      if (event !== null) this.emit(event.type === "BusReconnected" ? RESYNC : event);
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      this.setOnline(false);
      const delay = RECONNECT_MS[Math.min(this.failures, RECONNECT_MS.length - 1)];
      this.failures += 1;
      this.timer = setTimeout(() => this.connect(), delay);
    };
  }

  private disconnect(): void {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.timer);
    clearInterval(this.pollTimer);
    this.pollTimer = undefined;
    socket?.close();
  }

  private setOnline(online: boolean): void {
    this.tellOnline(online);
    if (online) {
      clearInterval(this.pollTimer);
      this.pollTimer = undefined;
    } else {
      this.pollTimer ??= setInterval(() => this.emit(RESYNC), POLL_MS);
    }
  }

  private emit(event: LiveEvent): void {
    for (const listener of [...this.listeners]) listener(event);
  }
}

/** A message of the socket, or null if it is not an event (a newer service may say more). */
export function parseLiveEvent(data: unknown): LiveEvent | null {
  if (typeof data !== "string") return null;
  try {
    const value: unknown = JSON.parse(data);
    if (typeof value !== "object" || value === null || !("type" in value)) return null;
    return typeof value.type === "string" ? (value as LiveEvent) : null;
  } catch {
    return null;
  }
}

const online = ref(true);
let shared: LiveEvents | null = null;

function socketAddress(): string {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}/ws`;
}

/** Listens for as long as the calling component lives. */
export function useLiveEvents(listener: Listener) {
  shared ??= new LiveEvents(
    () => new WebSocket(socketAddress()),
    (value) => (online.value = value),
  );
  onScopeDispose(shared.listen(listener));
  return { online: readonly(online) };
}
