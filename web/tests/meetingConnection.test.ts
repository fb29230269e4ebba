import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ApiProblem } from "@/api/problem";
import { MeetingConnection, type ConnectionState, type Trouble } from "@/media/meetingConnection";

/** As much of an RTCPeerConnection as the meeting connection touches. */
class FakePeer {
  connectionState: RTCPeerConnectionState = "new";
  iceGatheringState: RTCIceGatheringState = "complete";
  localDescription: { sdp: string } | null = null;
  closed = false;
  bytes = 0;
  onconnectionstatechange: (() => void) | null = null;
  ontrack: ((event: { track: FakeTrack; transceiver?: unknown }) => void) | null = null;
  readonly senders = [
    { replaceTrack: vi.fn(() => Promise.resolve()) },
    { replaceTrack: vi.fn(() => Promise.resolve()) },
    { replaceTrack: vi.fn(() => Promise.resolve()) },
  ];
  readonly transceivers = this.senders.map((sender) => ({ sender, currentDirection: "sendrecv" }));
  readonly video = { setCodecPreferences: vi.fn() };

  addTransceiver() {
    return this.video;
  }
  getSenders() {
    return this.senders;
  }
  getTransceivers() {
    return this.transceivers;
  }
  setLocalDescription() {
    this.localDescription = { sdp: `offer ${peers.indexOf(this)}` };
    return Promise.resolve();
  }
  setRemoteDescription() {
    return Promise.resolve();
  }
  getStats() {
    return Promise.resolve(
      new Map([["i", { id: "i", type: "inbound-rtp", kind: "video", bytesReceived: this.bytes }]]),
    );
  }
  close() {
    this.closed = true;
  }
  become(state: RTCPeerConnectionState) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }
}

interface FakeTrack {
  kind: string;
  onunmute: (() => void) | null;
}

const ANSWER = "a=candidate:1 1 udp 1 203.0.113.5 49000 typ host\r\n";
let peers: FakePeer[];
let told: { state: ConnectionState; trouble: Trouble | null }[];
let programmes: unknown[];
let slides: unknown[];
const offer = vi.fn<(sdp: string, participantId: string | null) => Promise<{ participant_id: string; sdp: string }>>();
const hangUp = vi.fn(() => Promise.resolve());

function connection(): MeetingConnection {
  return new MeetingConnection(
    { iceServers: () => Promise.resolve([]), offer, hangUp },
    {
      state: (state, trouble) => told.push({ state, trouble }),
      programme: (stream) => programmes.push(stream),
      slides: (stream) => slides.push(stream),
      quality: () => undefined,
    },
    { audio: null, video: null, slides: null },
    () => {
      const peer = new FakePeer();
      peers.push(peer);
      return peer as unknown as RTCPeerConnection;
    },
  );
}

const settle = () => vi.advanceTimersByTimeAsync(0);
const latest = () => peers.at(-1)!;

async function connected(): Promise<MeetingConnection> {
  const meeting = connection();
  meeting.start();
  await settle();
  latest().become("connected");
  await settle();
  return meeting;
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal(
    "MediaStream",
    class {
      addTrack() {}
    },
  );
  vi.stubGlobal("RTCRtpReceiver", {
    getCapabilities: () => ({ codecs: [{ mimeType: "video/VP8" }, { mimeType: "video/H264" }] }),
  });
  peers = [];
  told = [];
  programmes = [];
  slides = [];
  offer.mockReset().mockResolvedValue({ participant_id: "p1", sdp: ANSWER });
  hangUp.mockClear();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("joins with one offer, H.264 first, and says so when media flows", async () => {
  const meeting = await connected();
  expect(offer.mock.calls).toEqual([["offer 0", null]]);
  expect(latest().video.setCodecPreferences).toHaveBeenCalledWith([
    { mimeType: "video/H264" },
    { mimeType: "video/VP8" },
  ]);
  expect(told.at(-1)).toEqual({ state: "connected", trouble: null });
  expect(meeting.participantId).toBe("p1");
});

test("the programme is shown when its picture really comes, once", async () => {
  const meeting = connection();
  meeting.start();
  await settle();
  const track: FakeTrack = { kind: "video", onunmute: null };
  latest().ontrack?.({ track });
  expect(programmes).toHaveLength(0);
  track.onunmute?.();
  track.onunmute?.();
  latest().become("connected");
  await vi.advanceTimersByTimeAsync(2_500);
  expect(programmes).toHaveLength(1);
});

test("slides come by the third section, and are no part of the programme", async () => {
  const meeting = await connected();
  const peer = latest();
  peer.ontrack?.({ track: { kind: "video", onunmute: null }, transceiver: peer.transceivers[2] });
  expect(slides).toHaveLength(1);
  expect(slides[0]).not.toBeNull();
  const screen = { kind: "video" } as MediaStreamTrack;
  await meeting.setTrack("slides", screen);
  expect(peer.senders[2]!.replaceTrack).toHaveBeenCalledWith(screen);
  const add = vi.spyOn(FakePeer.prototype, "addTransceiver");
  meeting.reoffer();
  await settle();
  expect(add.mock.calls).toHaveLength(3);
  expect(add).toHaveBeenLastCalledWith(screen, expect.objectContaining({ direction: "sendrecv" }));
  add.mockRestore();
});

test("a service that refuses the second picture costs nothing but the slides", async () => {
  const answered = vi.spyOn(FakePeer.prototype, "setRemoteDescription").mockImplementation(function (this: FakePeer) {
    this.transceivers[2]!.currentDirection = "stopped";
    return Promise.resolve();
  });
  await connected();
  expect(slides).toEqual([null]);
  expect(told.at(-1)?.state).toBe("connected");
  answered.mockRestore();
});

test("three seconds of disconnection make a new peer connection for the same participant", async () => {
  await connected();
  const first = latest();
  first.become("disconnected");
  await vi.advanceTimersByTimeAsync(2_900);
  expect(peers).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(peers).toHaveLength(2);
  expect(offer).toHaveBeenLastCalledWith("offer 1", "p1");
  expect(told.at(-1)?.state).toBe("interrupted");
  latest().become("connected");
  expect(told.at(-1)?.state).toBe("connected");
});

test("the last picture stays, without sending, until the new connection has one", async () => {
  const meeting = await connected();
  await vi.advanceTimersByTimeAsync(2_100);
  expect(programmes).toHaveLength(1);
  const first = latest();
  meeting.reoffer();
  await settle();
  expect(first.senders[0]!.replaceTrack).toHaveBeenCalledWith(null);
  expect(first.closed).toBe(false);
  latest().become("connected");
  await vi.advanceTimersByTimeAsync(2_100);
  expect(programmes).toHaveLength(2);
  expect(first.closed).toBe(true);
});

test("a short disconnection is no reason for a new offer", async () => {
  await connected();
  latest().become("disconnected");
  await vi.advanceTimersByTimeAsync(2_000);
  latest().become("connected");
  latest().bytes = 1;
  await vi.advanceTimersByTimeAsync(4_000);
  expect(offer).toHaveBeenCalledTimes(1);
});

test("a failed transport is offered anew at once", async () => {
  await connected();
  latest().become("failed");
  await settle();
  expect(offer).toHaveBeenCalledTimes(2);
});

test("silence after media, without any ICE event, is noticed within five and a half seconds", async () => {
  await connected();
  latest().bytes = 5_000;
  await vi.advanceTimersByTimeAsync(1_100);
  expect(offer).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(4_500);
  expect(offer).toHaveBeenCalledTimes(2);
});

test("a connection that never received anything is not torn down for silence", async () => {
  await connected();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(offer).toHaveBeenCalledTimes(1);
});

test("no path for media: names the service's candidate, goes on trying, keeps the reason until it works", async () => {
  const meeting = connection();
  meeting.start();
  await vi.advanceTimersByTimeAsync(10_100);
  const reason = { kind: "media-path", candidate: "203.0.113.5:49000/UDP" };
  expect(told.at(-1)).toEqual({ state: "connecting", trouble: reason });
  expect(offer).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(11_100);
  expect(offer).toHaveBeenCalledTimes(3);
  meeting.reoffer();
  expect(told.at(-1)?.trouble).toEqual(reason);
  await settle();
  latest().become("connected");
  expect(told.at(-1)).toEqual({ state: "connected", trouble: null });
});

test("a refusal ends it with the service's words", async () => {
  offer.mockRejectedValue(new ApiProblem(403, { detail: "guests may not join" }));
  connection().start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(offer).toHaveBeenCalledTimes(1);
  expect(told.at(-1)?.state).toBe("ended");
  expect(told.at(-1)?.trouble).toMatchObject({
    kind: "service",
    problem: { status: 403, detail: "guests may not join" },
  });
});

test("a full service is asked again after its Retry-After, not before", async () => {
  offer.mockRejectedValueOnce(new ApiProblem(503, { detail: "link full" }, 7));
  connection().start();
  await vi.advanceTimersByTimeAsync(6_900);
  expect(offer).toHaveBeenCalledTimes(1);
  expect(told.at(-1)?.trouble).toMatchObject({ kind: "service", problem: { status: 503 } });
  await vi.advanceTimersByTimeAsync(200);
  expect(offer).toHaveBeenCalledTimes(2);
});

test("a service that is away is asked again and again until it is back", async () => {
  await connected();
  offer.mockRejectedValueOnce(new ApiProblem(0)).mockRejectedValueOnce(new ApiProblem(502));
  latest().become("failed");
  await vi.advanceTimersByTimeAsync(10_000);
  expect(offer).toHaveBeenCalledTimes(4);
  expect(offer).toHaveBeenLastCalledWith(expect.any(String), "p1");
});

test("a place that was given up while we were away is taken afresh after a pause", async () => {
  await connected();
  offer.mockRejectedValueOnce(new ApiProblem(404, { detail: "unknown participant" }));
  offer.mockResolvedValueOnce({ participant_id: "p2", sdp: ANSWER });
  latest().become("failed");
  await vi.advanceTimersByTimeAsync(1_000);
  expect(offer).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(1_500);
  expect(offer).toHaveBeenLastCalledWith(expect.any(String), null);
});

test("an unknown meeting is not asked for twice", async () => {
  offer.mockRejectedValue(new ApiProblem(404));
  connection().start();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(offer).toHaveBeenCalledTimes(1);
  expect(told.at(-1)?.state).toBe("ended");
});

test("a renegotiation asked for during an offer follows it, never beside it", async () => {
  let answer: (value: { participant_id: string; sdp: string }) => void = () => undefined;
  offer.mockReturnValueOnce(new Promise((resolve) => (answer = resolve)));
  const meeting = connection();
  meeting.start();
  await settle();
  meeting.reoffer();
  meeting.reoffer();
  await settle();
  expect(offer).toHaveBeenCalledTimes(1);
  answer({ participant_id: "p1", sdp: ANSWER });
  await settle();
  expect(offer.mock.calls).toEqual([
    ["offer 0", null],
    ["offer 1", "p1"],
  ]);
});

test("leaving hangs up, closes the peer and starts nothing again", async () => {
  const meeting = await connected();
  await meeting.close();
  await meeting.close();
  latest().become("failed");
  await vi.advanceTimersByTimeAsync(20_000);
  expect(hangUp.mock.calls).toEqual([["p1"]]);
  expect(latest().closed).toBe(true);
  expect(offer).toHaveBeenCalledTimes(1);
});

test("what the service ended is closed without a word to it", async () => {
  const meeting = await connected();
  expect(meeting.abandon()).toBe(true);
  await meeting.close();
  expect(latest().closed).toBe(true);
  expect(hangUp).not.toHaveBeenCalled();
});

test("leaving while the offer is under way hangs up what the answer brings", async () => {
  let answer: (value: { participant_id: string; sdp: string }) => void = () => undefined;
  offer.mockReturnValueOnce(new Promise((resolve) => (answer = resolve)));
  const meeting = connection();
  meeting.start();
  await settle();
  await meeting.close();
  answer({ participant_id: "p9", sdp: ANSWER });
  await settle();
  expect(hangUp.mock.calls).toEqual([["p9"]]);
});

test("another camera replaces the track in place and is used by the next offer too", async () => {
  const meeting = await connected();
  const track = { kind: "video" } as MediaStreamTrack;
  await meeting.setTrack("video", track);
  expect(latest().senders[1]!.replaceTrack).toHaveBeenCalledWith(track);
  const add = vi.spyOn(FakePeer.prototype, "addTransceiver");
  meeting.reoffer();
  await settle();
  expect(add).toHaveBeenCalledWith(track, expect.objectContaining({ direction: "sendrecv" }));
  add.mockRestore();
});
