import { expect, test } from "vitest";

import { levelOf, QualityMeter } from "@/media/quality";

interface Reading {
  received: number;
  lost: number;
  bytes: number;
  frames: number;
  remoteLoss?: number;
}

const stats = ({ received, lost, bytes, frames, remoteLoss = 0 }: Reading) => [
  { id: "c1", type: "codec", mimeType: "video/H264" },
  {
    id: "i1",
    type: "inbound-rtp",
    kind: "video",
    codecId: "c1",
    packetsReceived: received,
    packetsLost: lost,
    bytesReceived: bytes,
    framesDecoded: frames,
    frameWidth: 1280,
    frameHeight: 720,
    jitter: 0.012,
  },
  { id: "o1", type: "outbound-rtp", kind: "video", codecId: "c1", bytesSent: bytes, frameWidth: 640, frameHeight: 360 },
  { id: "r1", type: "remote-inbound-rtp", kind: "video", fractionLost: remoteLoss, roundTripTime: 0.2 },
  { id: "p1", type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 0.04 },
];

test("the first reading knows no rates and no level", () => {
  const first = new QualityMeter().read(stats({ received: 100, lost: 0, bytes: 50_000, frames: 10 }), 1000);
  expect(first).toMatchObject({
    level: "unknown",
    rateIn: 0,
    framesPerSecond: 0,
    lossIn: null,
    width: 1280,
    codecIn: "H264",
  });
});

test("rates are over the time between two readings", () => {
  const meter = new QualityMeter();
  meter.read(stats({ received: 100, lost: 0, bytes: 50_000, frames: 10 }), 1000);
  const second = meter.read(stats({ received: 400, lost: 0, bytes: 300_000, frames: 60 }), 3000);
  expect(second.rateIn).toBe(1_000_000);
  expect(second.framesPerSecond).toBe(25);
  expect(second.roundTripMs).toBe(40);
  expect(second.jitterMs).toBe(12);
  expect(second.level).toBe("good");
});

test("loss counts only what was lost lately and ages out of the window", () => {
  const meter = new QualityMeter();
  meter.read(stats({ received: 1000, lost: 500, bytes: 1, frames: 1 }), 0);
  expect(meter.read(stats({ received: 1090, lost: 510, bytes: 2, frames: 2 }), 1000).lossIn).toBeCloseTo(0.1);
  let last = 1;
  for (let second = 2; second <= 6; second += 1) {
    last =
      meter.read(stats({ received: 1090 + second * 100, lost: 510, bytes: 2, frames: 2 }), second * 1000).lossIn ?? 1;
  }
  expect(last).toBe(0);
});

test("what the other side misses makes the level as bad as what we miss", () => {
  const meter = new QualityMeter();
  meter.read(stats({ received: 100, lost: 0, bytes: 1, frames: 1 }), 0);
  const reading = meter.read(stats({ received: 200, lost: 0, bytes: 2, frames: 2, remoteLoss: 0.2 }), 1000);
  expect(reading.lossOut).toBe(0.2);
  expect(reading.level).toBe("poor");
});

test("RTCP alone shows that the other end lives", () => {
  const pair = { id: "p", type: "candidate-pair", nominated: true, state: "succeeded", bytesReceived: 90 };
  const inbound = { id: "i", type: "inbound-rtp", kind: "video", bytesReceived: 0 };
  expect(new QualityMeter().read([pair, inbound], 0).bytesIn).toBe(90);
});

test("levels: loss and round trip each decide", () => {
  expect(levelOf(null, null)).toBe("unknown");
  expect(levelOf(0, 50)).toBe("good");
  expect(levelOf(0.03, 50)).toBe("fair");
  expect(levelOf(0, 400)).toBe("fair");
  expect(levelOf(0.09, 50)).toBe("poor");
  expect(levelOf(0, 900)).toBe("poor");
});

test("a connection without any media yet has no figures and does not fail", () => {
  expect(new QualityMeter().read([], 0)).toMatchObject({ level: "unknown", jitterMs: null, lossOut: null, bytesIn: 0 });
});
