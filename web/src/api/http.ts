/** One place that calls the service: cookie session, CSRF header on writes, problems as exceptions. */

import { ApiProblem, problemOf } from "./problem";

const BASE = "/api/v1";
const TIMEOUT_MS = 15_000;

let csrfToken: string | null = null;
let onSignedOut: () => void = () => undefined;

/** The token that writes must carry; null after sign-out. */
export function setCsrfToken(token: string | null): void {
  csrfToken = token;
}

/** Called whenever the service says that there is no session (401) on a call that needs one. */
export function whenSignedOut(handler: () => void): void {
  onSignedOut = handler;
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

interface Options {
  body?: unknown;
  /** A 401 is an answer here (wrong password), not the end of a session. */
  signingIn?: boolean;
  /** Let the request outlive the page (leaving a meeting while the tab closes). */
  keepalive?: boolean;
  /** Some calls only answer once a device somewhere has. */
  timeoutMs?: number;
}

interface Sent extends Options {
  text?: string;
  type?: string;
}

/** An address below the service for an element of the page (an image, a video, a download). */
export const addressOf = (path: string) => BASE + path;

/** "?a=1&b=2" of what is given; empty and missing values are left out. */
export function queryOf(values: Record<string, string | number | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}

export async function call<T>(method: Method, path: string, options: Options = {}): Promise<T> {
  const body = options.body === undefined ? {} : { text: JSON.stringify(options.body), type: "application/json" };
  const response = await send(method, path, { ...options, ...body });
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Posts an offer as WHEP does and returns the answer with the address of what was made. */
export async function exchangeSdp(path: string, offer: string): Promise<{ sdp: string; location: string }> {
  const response = await send("POST", path, { text: offer, type: "application/sdp" });
  return { sdp: await response.text(), location: response.headers.get("Location") ?? "" };
}

/** A picture that the service makes on demand; its refusal says why there is none. */
export const readPicture = async (path: string): Promise<Blob> => (await send("GET", path, {})).blob();

/** A document as it is written; a mark of UTF-8 at its beginning stays, spreadsheets want it. */
export async function readText(path: string): Promise<string> {
  const bytes = await (await send("GET", path, {})).arrayBuffer();
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

async function send(method: Method, path: string, options: Sent): Promise<Response> {
  const headers: Record<string, string> = {
    Accept: "application/json, */*;q=0.5",
    "Accept-Language": document.documentElement.lang,
  };
  if (options.type !== undefined) headers["Content-Type"] = options.type;
  if (method !== "GET" && csrfToken !== null) headers["X-CSRF-Token"] = csrfToken;
  let response: Response;
  try {
    response = await fetch(path.startsWith(BASE) ? path : BASE + path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      keepalive: options.keepalive ?? false,
      signal: AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS),
      ...(options.text === undefined ? {} : { body: options.text }),
    });
  } catch {
    throw new ApiProblem(0);
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401 && options.signingIn !== true) onSignedOut();
    throw problem;
  }
  return response;
}
