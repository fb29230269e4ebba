import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ApiProblem } from "@/api/problem";
import { CameraView, type ViewState } from "@/media/cameraView";

/** As much of an RTCPeerConnection as the view touches. */
class FakePeer {
  connectionState: RTCPeerConnectionState = "new";
  iceGatheringState: RTCIceGatheringState = "complete";
  localDescription: { sdp: string } | null = null;
  closed = false;
  bytes = 0;
  frames = 0;
  readonly directions: string[] = [];
  onconnectionstatechange: (() => void) | null = null;
  ontrack: ((event: { track: { kind: string; onunmute: (() => void) | null } }) => void) | null = null;

  addTransceiver(kind: string, { direction }: { direction: string }) {
    this.directions.push(`${kind} ${direction}`);
    return { setCodecPreferences: () => undefined };
  }
  setLocalDescription() {
    this.localDescription = { sdp: `offer ${peers.indexOf(this)}` };
    return Promise.resolve();
  }
  setRemoteDescription() {
    return Promise.resolve();
  }
  getStats() {
    const video = {
      id: "i",
      type: "inbound-rtp",
      kind: "video",
      bytesReceived: this.bytes,
      framesDecoded: this.frames,
    };
    return Promise.resolve(new Map([["i", video]]));
  }
  close() {
    this.closed = true;
  }
  become(state: RTCPeerConnectionState) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
}

let peers: FakePeer[];
let told: { state: ViewState; problem: ApiProblem | null }[];
const stream = vi.fn();
const offer = vi.fn<(sdp: string) => Promise<{ sdp: string; location: string }>>();
const stop = vi.fn(() => Promise.resolve());

function view(): CameraView {
  return new CameraView(
    { iceServers: () => Promise.resolve([]), offer, stop },
    { state: (state, problem) => told.push({ state, problem }), stream },
    () => {
      const peer = new FakePeer();
      peers.push(peer);
      return peer as unknown as RTCPeerConnection;
    },
  );
}

const settle = (milliseconds = 0) => vi.advanceTimersByTimeAsync(milliseconds);
const latest = () => peers.at(-1)!;

/** Seconds of media: bytes come every second, and frames while `pictures`. */
async function media(peer: FakePeer, seconds: number, pictures: boolean) {
  for (let second = 0; second < seconds; second += 1) {
    peer.bytes += 1000;
    if (pictures) peer.frames += 25;
    await settle(1_000);
  }
}

async function watching(): Promise<CameraView> {
  const watched = view();
  watched.start();
  await settle();
  latest().become("connected");
  await media(latest(), 2, true);
  return watched;
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal(
    "MediaStream",
    class {
      addTrack() {}
    },
  );
  vi.stubGlobal("RTCRtpReceiver", { getCapabilities: () => ({ codecs: [{ mimeType: "video/H264" }] }) });
  peers = [];
  told = [];
  stream.mockClear();
  stop.mockClear();
  offer.mockReset().mockImplementation((sdp) => Promise.resolve({ sdp: "answer", location: `/place/${sdp}` }));
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("it only receives, and is live with the first pictures", async () => {
  const watched = await watching();
  expect(latest().directions).toEqual(["audio recvonly", "video recvonly"]);
  expect(offer).toHaveBeenCalledExactlyOnceWith("offer 0");
  expect(told).toEqual([{ state: "live", problem: null }]);
  watched.close();
  expect(latest().closed).toBe(true);
  expect(stop).toHaveBeenCalledExactlyOnceWith("/place/offer 0");
});

test("the stream is shown once its picture is unmuted", async () => {
  const watched = view();
  watched.start();
  await settle();
  const track = { kind: "video", onunmute: null as (() => void) | null };
  latest().ontrack?.({ track });
  expect(stream).not.toHaveBeenCalled();
  track.onunmute?.();
  expect(stream).toHaveBeenCalledOnce();
  watched.close();
});

test("a camera without pictures stalls the view, and its return needs no new offer", async () => {
  const watched = await watching();
  await media(latest(), 8, false);
  expect(told.at(-1)!.state).toBe("stalled");
  await media(latest(), 2, true);
  expect(told.at(-1)!.state).toBe("live");
  expect(peers).toHaveLength(1);
  watched.close();
});

test("nothing at all for a while is a dead path: the place is freed and a new one asked for", async () => {
  const watched = await watching();
  await settle(14_000);
  expect(told.at(-1)!.state).toBe("interrupted");
  expect(peers[0]!.closed).toBe(true);
  expect(stop).toHaveBeenCalledWith("/place/offer 0");
  expect(offer).toHaveBeenLastCalledWith("offer 1");
  watched.close();
});

test("no room now is asked again, not before the service said", async () => {
  offer.mockRejectedValueOnce(new ApiProblem(503, { detail: "no capacity" }, 5));
  const watched = view();
  watched.start();
  await settle();
  expect(told.at(-1)).toMatchObject({ state: "interrupted", problem: { status: 503 } });
  await settle(4_900);
  expect(offer).toHaveBeenCalledOnce();
  await settle(200);
  expect(offer).toHaveBeenCalledTimes(2);
  watched.close();
});

test("failures one after another wait longer each time", async () => {
  offer.mockRejectedValue(new ApiProblem(503));
  const watched = view();
  watched.start();
  await settle(60_000);
  expect(offer.mock.calls.length).toBeGreaterThan(5);
  expect(offer.mock.calls.length).toBeLessThan(10);
  watched.close();
});

test.each([401, 403, 404])("a refusal with %d is final", async (status) => {
  offer.mockRejectedValue(new ApiProblem(status));
  const watched = view();
  watched.start();
  await settle(60_000);
  expect(offer).toHaveBeenCalledOnce();
  expect(told.at(-1)!.state).toBe("refused");
  watched.close();
});

test("closed while the answer was on its way, it frees what was made", async () => {
  let answer: (value: { sdp: string; location: string }) => void = () => undefined;
  offer.mockReturnValueOnce(new Promise((resolve) => (answer = resolve)));
  const watched = view();
  watched.start();
  await settle();
  watched.close();
  answer({ sdp: "answer", location: "/place/late" });
  await settle();
  expect(stop).toHaveBeenCalledExactlyOnceWith("/place/late");
  expect(told).toEqual([]);
});

test("a path that never opens is given up", async () => {
  const watched = view();
  watched.start();
  await settle(10_100);
  expect(told.at(-1)!.state).toBe("interrupted");
  watched.close();
});
