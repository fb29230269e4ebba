"""A session of 126 sites in one media worker, admission off: how many cores, and is anything lost?

One site on the full screen sends 3 Mbit/s in H.264, which reach 125 sites as they came; they send sound and a
trickle of picture, one of them is seen by the speaker. Counted at the receivers for a minute, clear and in
SRTP (AEAD_AES_128_GCM). The yardstick is a loop of one sendto a packet and receiver that sends the pictures
and nothing else. Then a hundred more look on, and a hundred with little room: who is there already pays.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from benchmarks import fan_out
from benchmarks._crowd import Crowd, Site
from benchmarks._fan_out_sender import SourceFrame
from benchmarks._media_worker import NETWORK, MediaWorker, media_worker
from benchmarks.result import Result
from foundation.desks import Budget, ConferenceSpec, ParticipantSpec, View, ViewMode
from media.codecs import VideoCodec, VideoEncoder, VideoTarget
from media.picture import Picture
from protocols.payloads.h264 import H264Packetizer

SITES = 125
SECONDS = 60.0
VIEWERS = 100
SETTLING = 5.0
MEETING = "meeting"
BUDGET = Budget(3_900_000, 3_900_000)
NARROW = Budget(700_000, 700_000)
TRICKLE_FPS = 5
SPEECH = bytes([0x2A, 0x85, 0xB4, 0x05, 0xAA, 0x05, 0x34, 0x85] * 20)
"""20 ms of a loud tone of 1000 Hz in A-law."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`cores` of the worker, `lost` packets at all receivers, pictures `missed` by who missed most."""

    cores: float
    lost: int
    missed: int


def run() -> Iterator[Result]:
    frames, trickle = fan_out.encode_source(), encode_trickle()
    with tempfile.TemporaryDirectory(prefix="anshi-bench-") as name:
        source = Path(name) / "source"
        source.write_bytes(msgspec.msgpack.encode(frames))
        plain = min(fan_out.send("sendto", source, "127.0.0.1", (), SITES) for _ in range(3))
    peer = plain / fan_out.SECONDS
    for secure, words in ((False, "clear"), (True, "SRTP")):
        measured, rows = uvloop.run(_measure(frames, trickle, secure=secure))
        yield Result.against(
            f"one speaker to {SITES} sites, {words}",
            measured.cores,
            "cores",
            peer="sendto loop of its pictures",
            peer_value=peer,
            at_most=None,
        )
        yield Result.bounded(
            f"lost by {SITES} sites in {SECONDS:.0f} s, {words}", measured.lost, "packets", at_most=0
        )
        yield Result.bounded(
            f"pictures missed by the worst off, {words}", measured.missed, "pictures", at_most=0
        )
        yield from rows


async def _measure(
    frames: Sequence[SourceFrame], trickle: Sequence[SourceFrame], *, secure: bool
) -> tuple[Measured, list[Result]]:
    async with session(frames, trickle, secure=secure) as (worker, crowd):
        crowd.forget()
        before, sent = worker.cpu(), crowd.sites[0].sent
        await asyncio.to_thread(crowd.play, SECONDS)
        cores = (worker.cpu() - before) / SECONDS
        shown = [site.picture.counted for site in crowd.sites[1:]]
        lost = sum(medium.counted.lost for site in crowd.sites for medium in site.media)
        fewest = min(counted.frames for counted in shown)
        measured = Measured(cores, lost, crowd.sites[0].sent - sent - fewest)
        return measured, [] if secure else await _look_on(worker, crowd)


async def _look_on(worker: MediaWorker, crowd: Crowd) -> list[Result]:
    """How many encoders more viewers add."""
    counts = [await _encoders(worker)]
    narrow = Site(len(crowd.sites), viewing=True)
    await _join(worker, crowd, [narrow], NARROW)
    counts.append(await _encoders(worker))
    for budget in (BUDGET, NARROW):
        await _join(worker, crowd, [Site(len(crowd.sites) + n, viewing=True) for n in range(VIEWERS)], budget)
        counts.append(await _encoders(worker))
    if min(site.picture.counted.frames for site in crowd.sites) == 0:
        raise RuntimeError("somebody who looks on is sent no picture")
    none, one, more, many = counts
    return [
        Result.bounded(f"encoders for {SITES} sites", none, "encoders", at_most=0),
        Result.bounded(f"encoders that {VIEWERS} more viewers add", more - one, "encoders", at_most=0),
        Result.bounded(
            f"encoders that {VIEWERS} more beside one of 700 kbit/s add", many - more, "encoders", at_most=0
        ),
    ]


async def _encoders(worker: MediaWorker) -> int:
    return len((await worker.desk.report(MEETING)).encoders)


@asynccontextmanager
async def session(
    frames: Sequence[SourceFrame], trickle: Sequence[SourceFrame], *, secure: bool
) -> AsyncIterator[tuple[MediaWorker, Crowd]]:
    """The speaker on the full screen, and everybody sent its stream as it came."""
    crowd = Crowd()
    with tempfile.TemporaryDirectory(prefix="anshi-bench-") as name:
        async with media_worker(Path(name)) as worker:
            await worker.desk.open(ConferenceSpec(MEETING, "1000", "capacity", View()))
            sites = [Site(0, frames, sounds=SPEECH, secure=secure)]
            sites += [Site(n, trickle, TRICKLE_FPS, secure=secure) for n in range(1, SITES + 1)]
            view = View(ViewMode.FULL_SCREEN, "0")
            await worker.desk.set_view(MEETING, view)
            await _join(worker, crowd, sites, BUDGET)
            for _ in range(5):
                if not await _encoders(worker):
                    break
                await asyncio.to_thread(crowd.play, SETTLING)
            report = await worker.desk.report(MEETING)
            feeds = [leg.source for leg in report.legs if leg.source]
            if report.encoders or feeds.count("pass-through:0") != SITES:
                raise RuntimeError(f"{len(report.encoders)} encoders run, {set(feeds)}")
            yield worker, crowd
    crowd.close()


async def _join(worker: MediaWorker, crowd: Crowd, sites: Sequence[Site], budget: Budget) -> None:
    for site in sites:
        key = str(site.number)
        spec = ParticipantSpec(key, MEETING, f"site {key}", NETWORK, budget)
        site.answered(await worker.desk.admit(spec, site.offer()))
        crowd.add(site)
    await asyncio.to_thread(crowd.play, SETTLING)


def encode_trickle() -> list[SourceFrame]:
    """A small picture of few bits, as a site sends that nobody sees."""
    encoder = VideoEncoder(VideoTarget(VideoCodec.H264, 320, 180, TRICKLE_FPS, 48_000))
    packetizer = H264Packetizer(1, 1200)
    frames = []
    for number in range(10 * TRICKLE_FPS):
        picture = Picture.blank(320, 180, (120, 100, 100), number * 90_000 // TRICKLE_FPS)
        picture.y[160:, number * 5 : number * 5 + 20] = 220
        frames += [
            SourceFrame(packetizer.packetize(packet.data), packet.keyframe)
            for packet in encoder.encode(picture)
        ]
    return frames
