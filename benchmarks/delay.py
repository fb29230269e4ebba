"""What a media worker adds to the way of a picture and of a sound, on a machine that does little else.

Stamped at the sender's socket and at the receiver's, which one process reads: pictures passed through by
their bytes, pictures of a mosaic by the number burnt into each, sound by the instant at which a quiet tone
becomes a loud one. Budgets are so large that the pacer never holds anything up. A picture counts from its
last packet to the last packet of the picture that shows it; sound from sample to sample, so that its packet
time is not in it.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks import fan_out
from benchmarks._crowd import PICTURE, Crowd, Medium, Site
from benchmarks._fan_out_sender import SourceFrame
from benchmarks._media_worker import NETWORK, MediaWorker, media_worker
from benchmarks.result import Result
from foundation.desks import (
    Budget,
    CodecDescription,
    ConferenceSpec,
    ParticipantSpec,
    SectionKind,
    View,
    ViewMode,
)
from media.codecs import VideoCodec, VideoDecoder, VideoEncoder, VideoTarget
from media.packet import Packet
from media.receiver_reports import ReceiverFeedback
from media.rtp_receiver import ReceiverSettings, RtpReceiver
from orchestrator.demo.terminal.footage import Footage, Region, read_number
from protocols.payloads.h264 import H264Packetizer
from protocols.payloads.h264_depacketizer import H264Depacketizer

SECONDS = 20.0
SETTLING = 4.0
NO_PACING = Budget(500_000_000, 500_000_000)
RECEIVERS = 10
SITES, COLUMNS = 9, 3
FPS, LOOP = 25, 50
NUMBERS = 1000
MEETINGS = 10
QUIET, LOUD, THRESHOLD = 1000, 12_000, 5000
RATE, SAMPLES = 8000, 160
TONE = 1000


class Stamped(Medium):
    """A medium that remembers when each frame left and each packet came, by the monotonic clock."""

    def __init__(self, kind: SectionKind, codec: CodecDescription, *, secure: bool) -> None:
        super().__init__(kind, codec, secure=secure)
        self.left: list[tuple[float, bytes]] = []
        self.came: list[tuple[float, bytes]] = []

    def send(self, payloads: Sequence[bytes], ticks: int, *, marker: bool) -> None:
        super().send(payloads, ticks, marker=marker)
        self.left.append((time.monotonic(), payloads[-1]))

    def drain(self, buffer: bytearray) -> None:
        while True:
            try:
                size = self.sock.recv_into(buffer)
            except BlockingIOError:
                return
            if not 192 <= buffer[1] <= 223:  # RTCP (RFC 5761 4)
                self.came.append((time.monotonic(), bytes(buffer[:size])))


@dataclass
class Speaker(Site):
    """Says one payload after another."""

    track: Sequence[bytes] = ()
    said: int = 0

    def speak(self) -> None:
        self.sounds = self.track[self.said % len(self.track)]
        self.said += 1
        super().speak()


def run() -> Iterator[Result]:
    gc.freeze()  # to look through what the imports made holds up the clock of whoever sends and receives
    for what, measured, target in (
        ("a picture passed through", uvloop.run(_passed_through()), 5.0),
        ("a picture in a mosaic of nine", uvloop.run(_composed()), 80.0),
        ("sound", uvloop.run(_spoken()), 60.0),
    ):
        if len(measured) < SECONDS * 10:
            raise RuntimeError(f"{what}: {len(measured)} measured only")
        yield Result.bounded(
            f"delay added to {what}, p95", 1000 * float(np.percentile(measured, 95)), "ms", at_most=target
        )


@asynccontextmanager
async def played(meetings: Sequence[Sequence[Site]], view: View) -> AsyncIterator[float]:
    """Meetings of these sites in one worker, played; yields since when they had settled (monotonic)."""
    crowd = Crowd()
    with tempfile.TemporaryDirectory(prefix="anshi-bench-") as name:
        async with media_worker(Path(name)) as worker:
            for number, sites in enumerate(meetings):
                await _hold(worker, f"meeting {number}", sites, view, crowd)
            await asyncio.to_thread(crowd.play, SETTLING)
            settled = time.monotonic()
            await asyncio.to_thread(crowd.play, SECONDS)
            yield settled
    crowd.close()


async def _hold(worker: MediaWorker, meeting: str, sites: Sequence[Site], view: View, crowd: Crowd) -> None:
    await worker.desk.open(ConferenceSpec(meeting, meeting, meeting, view))
    for site in sites:
        spec = ParticipantSpec(f"{meeting}/{site.number}", meeting, f"site {site.number}", NETWORK, NO_PACING)
        site.answered(await worker.desk.admit(spec, site.offer()))
        crowd.add(site)


# --- pictures as they came --------------------------------------------------------------------------


async def _passed_through() -> list[float]:
    speaker = Site(0, fan_out.encode_source(), medium=Stamped)
    receivers = [Site(n, viewing=True, medium=Stamped) for n in range(1, RECEIVERS + 1)]
    async with played([[speaker, *receivers]], View(ViewMode.FULL_SCREEN, "meeting 0/0")) as settled:
        assert isinstance(speaker.picture, Stamped)
        sent = _by_content(speaker.picture.left)
        return [delay for receiver in receivers for delay in _delays(receiver.picture, sent, settled)]


def _by_content(left: Sequence[tuple[float, bytes]]) -> dict[bytes, list[float]]:
    times: dict[bytes, list[float]] = {}
    for at, payload in left:
        times.setdefault(payload, []).append(at)
    return times


def _delays(medium: Medium, sent: dict[bytes, list[float]], settled: float) -> list[float]:
    assert isinstance(medium, Stamped)
    ends = [(at, data[12:]) for at, data in medium.came if data[1] & 0x80 and at >= settled]
    known = [(at, sent[payload]) for at, payload in ends if payload in sent]
    if len(known) < 0.9 * len(ends):
        raise RuntimeError(f"of {len(ends)} pictures {len(known)} came as they were sent")
    return [delay for at, times in known if (delay := _since(at, times)) is not None]


def _since(at: float, times: Sequence[float]) -> float | None:
    """Seconds since the latest of the times."""
    before = bisect_right(times, at)
    return at - times[before - 1] if before else None


# --- pictures in a mosaic ---------------------------------------------------------------------------


async def _composed() -> list[float]:
    reels = [numbered(site) for site in range(SITES)]
    sites = [Site(n, reels[n], medium=Stamped) for n in range(SITES)]
    receiver = Site(SITES, viewing=True, medium=Stamped)
    async with played([[*sites, receiver]], View()) as settled:
        sent: dict[int, list[float]] = {}
        for number, site in enumerate(sites):
            assert isinstance(site.picture, Stamped)
            for index, (at, _) in enumerate(site.picture.left):
                sent.setdefault(number * NUMBERS + index % LOOP, []).append(at)
        assert isinstance(receiver.picture, Stamped)
        return [delay for at, delay in _shown(receiver.picture.came, sent) if at >= settled]


def numbered(site: int) -> list[SourceFrame]:
    """A loop of pictures, each with a number of its own."""
    encoder = VideoEncoder(VideoTarget(VideoCodec.H264, 640, 360, FPS, 600_000))
    footage = Footage((60 + 15 * site, 90, 120), 640, 360, numbered=True)
    packetizer = H264Packetizer(1, 1200)
    return [
        SourceFrame(packetizer.packetize(packet.data), packet.keyframe)
        for n in range(LOOP)
        for packet in encoder.encode(footage.picture(site * NUMBERS + n, n * 90_000 // FPS))
    ]


def _shown(came: Sequence[tuple[float, bytes]], sent: dict[int, list[float]]) -> list[tuple[float, float]]:
    """Of each number that appeared in a tile: when, and how long after it had left."""
    settings = ReceiverSettings(
        1, "bench", 90_000, {PICTURE.payload_type: H264Depacketizer()}, {}, ReceiverFeedback()
    )
    receiver, decoder = RtpReceiver(settings), VideoDecoder(VideoCodec.H264)
    tiles = [
        Region(x / COLUMNS, y / COLUMNS, 1 / COLUMNS, 1 / COLUMNS)
        for y in range(COLUMNS)
        for x in range(COLUMNS)
    ]
    last: list[int | None] = [None] * len(tiles)
    delays = []
    for at, data in came:
        for frame in receiver.receive_rtp(data, at):
            packet = Packet(frame.data, frame.timestamp, at, frame.keyframe, frame.damaged)
            for picture in decoder.decode(packet):
                for place, tile in enumerate(tiles):
                    number = read_number(picture, tile)
                    if number is None or number == last[place]:
                        continue
                    last[place] = number
                    delay = _since(at, sent.get(number, ()))
                    if delay is not None:
                        delays.append((at, delay))
    return delays


# --- sound ------------------------------------------------------------------------------------------


async def _spoken() -> list[float]:
    track, table = _track()
    pairs = [
        [
            Speaker(0, only_sound=True, medium=Stamped, track=track),
            Site(1, only_sound=True, viewing=True, medium=Stamped),
        ]
        for _ in range(MEETINGS)
    ]
    async with played(pairs, View()) as settled:
        delays = []
        for speaker, listener in pairs:
            assert isinstance(speaker.sound, Stamped)
            assert isinstance(listener.sound, Stamped)
            said = _onsets(speaker.sound.left, table)
            heard = _onsets([(at, data[12:]) for at, data in listener.sound.came], table)
            since = (_since(at, said) for at in heard if at >= settled)
            delays += [delay for delay in since if delay is not None and delay < 0.3]
        return delays


def _track() -> tuple[list[bytes], NDArray[np.int16]]:
    """Twenty seconds of a tone that is loud now and then, in A-law, and what each code means."""
    decoder = av.CodecContext.create("pcm_alaw", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.layout = RATE, "mono"
    (frame,) = decoder.decode(av.Packet(bytes(range(256))))
    table = frame.to_ndarray()[0].astype(np.int16)
    dice = random.Random(1)
    count = 20 * RATE
    loud = np.zeros(count, bool)
    at = RATE // 2
    while at < count - RATE // 2:
        loud[at : at + RATE // 5] = True
        at += RATE // 2 + dice.randrange(RATE // 8)
    wave = np.cos(2 * np.pi * TONE * np.arange(count) / RATE) * np.where(loud, LOUD, QUIET)
    codes = np.abs(table[None, :].astype(np.int32) - wave.astype(np.int32)[:, None]).argmin(axis=1)
    coded = codes.astype(np.uint8).tobytes()
    return [coded[at : at + SAMPLES] for at in range(0, count, SAMPLES)], table


def _onsets(frames: Sequence[tuple[float, bytes]], table: NDArray[np.int16]) -> list[float]:
    """When it became loud: the packet's time and the place of the sample in it."""
    found = []
    quiet_for = 0
    for at, payload in frames:
        loud = np.flatnonzero(np.abs(table[np.frombuffer(payload, np.uint8)]) > THRESHOLD)
        if len(loud) and quiet_for * SAMPLES + loud[0] > RATE // 10:
            found.append(at + float(loud[0]) / RATE)
        quiet_for = 0 if len(loud) else quiet_for + 1
    return found
