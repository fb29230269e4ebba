"""CPU of looking at cameras once a second, motion-gated: 720p25 with people (vtest.avi), and with nobody.

The peer is the loop that one would write first, in the same process with the same model: decode every frame,
convert and look at one a second."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import uvloop
from av.video.codeccontext import VideoCodecContext

from analytics.detection import Bgr, Sample
from analytics.detector import Detector
from analytics.inference import InferencePool
from analytics.model_package import DEFAULT_MODEL, load
from analytics.sampler import Sampler, SamplerSettings
from benchmarks.result import Result
from media.codec_worker import CodecPool
from media.packet import Format, Packet
from media.stream import Stream

CLIP = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
CAMERAS, SECONDS, WARM_UP = 6, 12, 3
RATE, CLOCK = 25, 90_000
SIZE = (1280, 720)


def run() -> list[Result]:
    """Needs Debian's opencv-doc for the clip."""
    people, nobody = list(_people()), list(_nobody())
    rare = _coded(people, gop=2 * RATE)
    naive = _naive_loop(rare)
    results = []
    for what, packets in (
        ("people, key frames every 2 s", rare),
        ("people, key frames every second", _coded(people, gop=RATE)),
        ("nobody, key frames every 2 s", _coded(nobody, gop=2 * RATE)),
    ):
        cost = uvloop.run(_analysed(packets))
        results += [
            Result.against(
                f"analysed 720p camera: {what}",
                1000 * cost,
                "CPU-ms/s",
                peer="decode all, look at one a second",
                peer_value=1000 * naive,
                at_most=0.95,
            ),
            Result.bounded(f"cameras a core: {what}", 1 / cost, "cameras", at_most=None),
        ]
    return results


def _people() -> Iterator[Bgr]:
    """The clip's frames as a camera of 1280 x 720 would show them, at 25 a second."""
    capture = cv2.VideoCapture(str(CLIP))
    wanted = (WARM_UP + SECONDS + 3) * RATE
    for _ in range(wanted):
        there, frame = capture.read()
        if not there:
            raise RuntimeError(f"{CLIP} is not there or too short: install Debian's opencv-doc")
        yield np.asarray(cv2.resize(frame, (1280, 960))[120:840], np.uint8)


def _nobody() -> Iterator[Bgr]:
    """The first frame of the clip with a sensor's noise."""
    ground = next(_people()).astype(np.int16)
    noise = np.random.default_rng(1).normal(0, 3, (8, SIZE[1], SIZE[0], 1)).astype(np.int16)
    for number in range((WARM_UP + SECONDS + 3) * RATE):
        yield np.clip(ground + noise[number % len(noise)], 0, 255).astype(np.uint8)


def _coded(pictures: Sequence[Bgr], gop: int) -> list[Packet]:
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = *SIZE, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(RATE), Fraction(1, RATE)
    encoder.bit_rate = 2_000_000
    encoder.options = {
        "preset": "superfast",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:repeat-headers=1:annexb=1",
    }
    made: list[tuple[bytes, bool]] = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format="yuv420p")
        frame.pts = number
        made += [(bytes(one), one.is_keyframe) for one in encoder.encode(frame)]
    made += [(bytes(one), one.is_keyframe) for one in encoder.encode(None)]
    return [
        Packet(data, number * CLOCK // RATE, number / RATE, keyframe)
        for number, (data, keyframe) in enumerate(made)
    ]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _naive_loop(packets: Sequence[Packet]) -> float:
    """CPU seconds for a second of one camera."""
    detector = Detector(load(DEFAULT_MODEL))
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    before, number = _cpu(), 0
    for packet in packets:
        for frame in decoder.decode(av.Packet(packet.data)):
            if number % RATE == 0:
                detector.detect(frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False))
            number += 1
    return (_cpu() - before) / (number / RATE)


class _Cameras:
    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = streams

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        yield self._streams[stream_id]


async def _publish(stream: Stream, packets: Sequence[Packet], offset: float) -> None:
    await asyncio.sleep(offset)
    began = time.monotonic()
    for packet in packets:
        await asyncio.sleep(max(0.0, began + packet.arrival - time.monotonic()))
        stream.publish(Packet(packet.data, packet.pts, time.monotonic(), packet.keyframe))


async def _count(sampler: Sampler, seen: list[int]) -> None:
    async for one in sampler:
        seen[0] += isinstance(one, Sample)


async def _analysed(packets: Sequence[Packet]) -> float:
    """CPU seconds for a picture a second of one of six cameras, publishing included."""
    names = [str(number) for number in range(CAMERAS)]
    streams = {f"camera:{name}": Stream(f"camera:{name}", Format("H264", CLOCK)) for name in names}
    decoding, inference = CodecPool(1, "decoding"), await InferencePool.open(load(DEFAULT_MODEL), 1)
    source, seen = _Cameras(streams), [0]
    samplers = [Sampler(name, source, decoding, inference, SamplerSettings(rate=1.0)) for name in names]
    async with asyncio.TaskGroup() as group:
        for number, (sampler, stream) in enumerate(zip(samplers, streams.values(), strict=True)):
            await sampler.__aenter__()
            group.create_task(_count(sampler, seen))
            group.create_task(_publish(stream, packets, number / CAMERAS))
        await asyncio.sleep(WARM_UP)
        before, already = _cpu(), seen[0]
        await asyncio.sleep(SECONDS)
        used, looked = _cpu() - before, seen[0] - already
        for sampler in samplers:
            await sampler.aclose()
    await inference.aclose()
    await decoding.aclose()
    if looked < 0.7 * CAMERAS * SECONDS:
        raise RuntimeError(f"{looked} samples of {CAMERAS * SECONDS}: too slow a machine to measure on")
    return used / looked
