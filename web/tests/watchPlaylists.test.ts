import { expect, test } from "vitest";

import { withParts } from "../watch/playlists";

const head = ["#EXTM3U", "#EXT-X-PART-INF:PART-TARGET=0.500"];
const whole = (msn: number, seconds: string) => [`#EXTINF:${seconds},`, `seg-${msn}.m4s`];
const part = (msn: number, index: number) => `#EXT-X-PART:DURATION=0.50000,URI="part-${msn}.${index}.m4s"`;

test("a segment without parts behind such with parts is a part itself", () => {
  const before = [...head, ...whole(1, "2.00000"), part(2, 0), ...whole(2, "0.50000"), ...whole(3, "1.70000")];
  const after = [part(4, 0), '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part-4.1.m4s"', ""];
  expect(withParts([...before, ...after].join("\n")).split("\n")).toEqual([
    ...before.slice(0, -2),
    '#EXT-X-PART:DURATION=1.70000,URI="seg-3.m4s"',
    ...before.slice(-2),
    ...after,
  ]);
});

test("at the end of the list it is one too", () => {
  const list = [...head, part(2, 0), ...whole(2, "0.50000"), ...whole(3, "0.70000"), ""].join("\n");
  expect(withParts(list)).toContain('#EXT-X-PART:DURATION=0.70000,URI="seg-3.m4s"\n#EXTINF:0.70000,');
});

test("other playlists stay as they are", () => {
  for (const list of [
    ["#EXTM3U", "#EXT-X-STREAM-INF:BANDWIDTH=1", "media.m3u8", ""],
    [...head, ...whole(1, "2.00000"), ...whole(2, "2.00000"), ""],
    [...head, ...whole(1, "2.00000"), part(2, 0), part(2, 1), ...whole(2, "1.00000"), part(3, 0), ""],
  ]) {
    expect(withParts(list.join("\n"))).toBe(list.join("\n"));
  }
});
