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

type Method = "GET" | "POST" | "PATCH" | "DELETE";

interface Options {
  body?: unknown;
  /** A 401 is an answer here (wrong password), not the end of a session. */
  signingIn?: boolean;
  /** Let the request outlive the page (leaving a meeting while the tab closes). */
  keepalive?: boolean;
}

export async function call<T>(method: Method, path: string, options: Options = {}): Promise<T> {
  const headers: Record<string, string> = {
    Accept: "application/json",
    "Accept-Language": document.documentElement.lang,
  };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrfToken !== null) headers["X-CSRF-Token"] = csrfToken;
  let response: Response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      keepalive: options.keepalive ?? false,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    });
  } catch {
    throw new ApiProblem(0);
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401 && options.signingIn !== true) onSignedOut();
    throw problem;
  }
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
