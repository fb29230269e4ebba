import { expect, test } from "vitest";

import { candidateOf, orderVideoCodecs } from "@/media/codecs";

const codec = (mimeType: string, sdpFmtpLine?: string) => ({
  mimeType,
  ...(sdpFmtpLine === undefined ? {} : { sdpFmtpLine }),
});

test("H.264 comes first, packetization mode 1 before 0, then VP8, then RTX; the rest is not offered", () => {
  const offered = [
    codec("video/VP8"),
    codec("video/rtx"),
    codec("video/VP9", "profile-id=0"),
    codec("video/H264", "packetization-mode=0;profile-level-id=42e01f"),
    codec("video/H264", "packetization-mode=1;profile-level-id=42e01f"),
    codec("video/AV1"),
    codec("video/ulpfec"),
  ];
  expect(orderVideoCodecs(offered)).toEqual([offered[4], offered[3], offered[0], offered[1]]);
});

test("profiles of one packetization mode keep the browser's order", () => {
  const high = codec("video/H264", "packetization-mode=1;profile-level-id=64001f");
  const baseline = codec("video/H264", "packetization-mode=1;profile-level-id=42001f");
  expect(orderVideoCodecs([high, baseline])).toEqual([high, baseline]);
});

test("a browser with neither codec keeps its own preferences", () => {
  expect(orderVideoCodecs([codec("video/VP9"), codec("video/rtx")])).toEqual([]);
});

test("the first candidate of an answer is named with address, port and transport", () => {
  const sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:1 1 udp 2130706431 203.0.113.5 49000 typ host\r\n";
  expect(candidateOf(sdp)).toBe("203.0.113.5:49000/UDP");
  expect(candidateOf("a=candidate:1 1 UDP 1 2001:db8::1 49000 typ host")).toBe("[2001:db8::1]:49000/UDP");
  expect(candidateOf("v=0\r\n")).toBeNull();
});
