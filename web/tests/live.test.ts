import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { LiveEvents, parseLiveEvent } from "@/stores/live";

class FakeSocket {
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  close = vi.fn();
}

let sockets: FakeSocket[];
let online: boolean[];
const make = () =>
  new LiveEvents(
    () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    (value) => online.push(value),
  );

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  online = [];
});
afterEach(() => vi.useRealTimers());

test("one socket for all listeners, closed with the last", () => {
  const live = make();
  const heard: string[] = [];
  const stop = [
    live.listen((event) => heard.push(`a ${event.type}`)),
    live.listen((event) => heard.push(`b ${event.type}`)),
  ];
  sockets[0]!.onmessage?.({ data: '{"type":"ConferenceOpened","conference_id":"c"}' });
  expect(sockets).toHaveLength(1);
  expect(heard).toEqual(["a ConferenceOpened", "b ConferenceOpened"]);
  stop.forEach((end) => end());
  expect(sockets[0]!.close).toHaveBeenCalledOnce();
});

test("a lost socket comes again with growing pauses, and every gap ends with a Resync", () => {
  const live = make();
  const heard: string[] = [];
  live.listen((event) => heard.push(event.type));
  sockets[0]!.onopen?.();
  expect(heard).toEqual(["Resync"]);
  sockets[0]!.onclose?.();
  vi.advanceTimersByTime(499);
  expect(sockets).toHaveLength(1);
  vi.advanceTimersByTime(1);
  expect(sockets).toHaveLength(2);
  sockets[1]!.onclose?.();
  vi.advanceTimersByTime(1_000);
  sockets[2]!.onopen?.();
  expect(heard).toEqual(["Resync", "Resync"]);
  expect(online).toEqual([true, false, false, true]);
});

test("without a socket the listeners re-read every few seconds, and no longer once it is back", () => {
  const live = make();
  let resyncs = 0;
  live.listen(() => (resyncs += 1));
  sockets[0]!.onclose?.();
  vi.advanceTimersByTime(8_500);
  expect(resyncs).toBe(2);
  sockets.at(-1)!.onopen?.();
  vi.advanceTimersByTime(60_000);
  expect(resyncs).toBe(3);
});

test("a bus that was away means the same as a gap", () => {
  const live = make();
  const heard: string[] = [];
  live.listen((event) => heard.push(event.type));
  sockets[0]!.onmessage?.({ data: '{"type":"BusReconnected"}' });
  expect(heard).toEqual(["Resync"]);
});

test.each(["", "{", "null", "[]", '{"type":3}', '"text"'])("%j is no event", (data) => {
  expect(parseLiveEvent(data)).toBeNull();
});
