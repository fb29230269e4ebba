import { beforeEach, expect, test, vi } from "vitest";

import { call, setCsrfToken, whenSignedOut } from "@/api/http";
import { ApiProblem, retryAfterSeconds } from "@/api/problem";

const answer = vi.fn<(path: string, init: RequestInit) => Promise<Response>>();

beforeEach(() => {
  answer.mockReset();
  vi.stubGlobal("fetch", answer);
  vi.stubGlobal("document", { documentElement: { lang: "zh-CN" } });
});

const problem = (status: number, body: object, headers: Record<string, string> = {}) =>
  Promise.resolve(
    new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/problem+json", ...headers } }),
  );

test("a problem document becomes an exception with its words and its Retry-After", async () => {
  answer.mockReturnValue(problem(503, { title: "Full", detail: "link nanning is full" }, { "Retry-After": "5" }));
  const error = await call("GET", "/x").catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ApiProblem);
  expect(error).toMatchObject({ status: 503, title: "Full", detail: "link nanning is full", retryAfter: 5 });
});

test("no answer is status 0; a page of a proxy keeps its status", async () => {
  answer.mockRejectedValueOnce(new TypeError("failed"));
  await expect(call("GET", "/x")).rejects.toMatchObject({ status: 0 });
  answer.mockResolvedValueOnce(new Response("<html>", { status: 502, headers: { "Content-Type": "text/html" } }));
  await expect(call("GET", "/x")).rejects.toMatchObject({ status: 502, detail: "" });
});

test("writes carry the CSRF token and reads do not", async () => {
  setCsrfToken("secret");
  answer.mockImplementation(() => Promise.resolve(new Response(null, { status: 204 })));
  await call("POST", "/x", { body: { a: 1 } });
  await call("GET", "/x");
  const headers = answer.mock.calls.map(([, init]) => init.headers as Record<string, string>);
  expect(headers[0]).toMatchObject({ "X-CSRF-Token": "secret", "Content-Type": "application/json" });
  expect(headers[1]).not.toHaveProperty("X-CSRF-Token");
  expect(answer.mock.calls[0]![0]).toBe("/api/v1/x");
});

test("401 ends the session, but not while signing in", async () => {
  const signedOut = vi.fn();
  whenSignedOut(signedOut);
  answer.mockImplementation(() => problem(401, {}));
  await call("POST", "/session", { signingIn: true }).catch(() => undefined);
  expect(signedOut).not.toHaveBeenCalled();
  await call("GET", "/users").catch(() => undefined);
  expect(signedOut).toHaveBeenCalledOnce();
});

test("Retry-After as seconds, as a date, as nonsense", () => {
  expect(retryAfterSeconds("120")).toBe(120);
  expect(retryAfterSeconds("Thu, 01 Jan 1970 00:01:40 GMT", 90_000)).toBe(10);
  expect(retryAfterSeconds("soon")).toBeNull();
  expect(retryAfterSeconds(null)).toBeNull();
});
