"""Cameras as the bridge sees them: streams that somebody opens by name, with pictures and sound made once.

    cameras = Cameras()
    cameras["camera:1"] = Camera(pictures(RED), sound(440.0, "PCMA"))
    async with Bridge(settings(), access, emit, cameras) as bridge: ...

Each plays while it is held, in real time, in decoding order with the time stamps of presentation.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.video.codeccontext import VideoCodecContext

from media.packet import Format, Packet
from media.sound_codecs import FRAME, SoundCodec, sound_encoder
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamUnavailable
from tests.mcu_bridge.rtp_peer import Yuv

LOOP_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Footage:
    """Coded frames of a loop with their times in ticks, and how long each keeps us until the next."""

    format: Format
    frames: tuple[tuple[bytes, int, bool], ...]
    length: int


def i420(colour: Yuv, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    planes = (height * width, height * width // 4, height * width // 4)
    flat = np.concatenate(
        [np.full(count, value, np.uint8) for count, value in zip(planes, colour, strict=True)]
    )
    return flat.reshape(height * 3 // 2, width)


@cache
def pictures(
    colour: Yuv,
    *,
    profile: str = "baseline",
    b_frames: int = 0,
    size: tuple[int, int] = (320, 180),
    gop: int = 25,
    flash: Yuv | None = None,
) -> Footage:
    """H.264 at 25 a second; with `flash` the first tenth of each second has that colour."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {
        "profile": profile,
        "bf": str(b_frames),
        "g": str(gop),
        "preset": "veryfast",
        "crf": "30",
        "x264-params": "scenecut=0:b-adapt=0:repeat-headers=1:threads=1:rc-lookahead=0:sync-lookahead=0",
    }
    packets = []
    noise = np.random.default_rng(2)
    for number in range(25 * LOOP_SECONDS):
        shown = flash if flash is not None and number % 25 < 3 else colour
        buffer = i420(shown, size)
        strip = buffer[size[1] * 7 // 8 : size[1], : size[0] // 8]
        strip[...] = noise.integers(16, 235, strip.shape, np.uint8)
        frame = av.VideoFrame.from_ndarray(buffer, "yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    frames = tuple((bytes(p), int(p.pts or 0) * 3600, bool(p.is_keyframe)) for p in packets)
    return Footage(Format("H264", 90_000), frames, 3600)


def tone(hertz: float, count: int, begin: int, rate: int) -> np.ndarray:
    return np.sin(2 * math.pi * hertz * (begin + np.arange(count)) / rate) * 0.25


@cache
def sound(hertz: float, codec: str, *, rate: int = 8_000, channels: int = 1, beep: bool = False) -> Footage:
    """A tone; with `beep` in the first tenth of each second only."""

    def samples(count: int, begin: int, at: int) -> np.ndarray:
        heard = (begin + np.arange(count)) % at < at // 10 if beep else np.ones(count)
        return np.asarray(tone(hertz, count, begin, at) * heard)

    if codec == "MPEG4-GENERIC":
        return _aac(samples, rate, channels)
    encoder = sound_encoder(SoundCodec(codec))
    clock = 48_000 if codec == "OPUS" else 8_000
    frames = tuple(
        (
            encoder.encode(np.round(samples(FRAME, n * FRAME, 48_000) * 32767).astype(np.int16)),
            n * clock // 50,
            True,
        )
        for n in range(50 * LOOP_SECONDS)
    )
    return Footage(Format(codec, clock, 2 if codec == "OPUS" else 1), frames, clock // 50)


def _aac(samples: Callable[[int, int, int], np.ndarray], rate: int, channels: int) -> Footage:
    context = av.CodecContext.create("aac", "w")
    assert isinstance(context, AudioCodecContext)
    layout = "mono" if channels == 1 else "stereo"
    context.sample_rate, context.layout, context.format = rate, layout, "fltp"
    context.bit_rate = 64_000
    context.open()
    packets = []
    for number in range(rate * LOOP_SECONDS // 1024):
        wave = samples(1024, number * 1024, rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave] * channels), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, number * 1024
        packets += context.encode(frame)
    config = bytes(context.extradata or b"").hex()
    frames = tuple((bytes(p), n * 1024, True) for n, p in enumerate(packets))
    return Footage(Format("MPEG4-GENERIC", rate, channels, {"config": config}), frames, 1024)


class Camera:
    """Plays its loops while it is open; `end` closes its streams, as a camera of another format now does."""

    def __init__(self, shown: Footage | None, heard: Footage | None = None) -> None:
        self.shown, self.heard = shown, heard
        self.fault: StreamUnavailable | None = None
        self.holders = 0
        self.opened = 0
        self.sent: set[bytes] = set()
        self._streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def open(self, stream_id: str, part: str) -> AsyncIterator[Stream]:
        footage = self.heard if part else self.shown
        self.opened += not part
        if self.fault is not None:
            raise self.fault
        if footage is None:
            raise NoSuchStream(f"{stream_id} has none")
        stream = self._streams.get(part)
        if stream is None or stream.closed:
            stream = self._streams[part] = Stream(stream_id, footage.format)
            self._tasks[part] = asyncio.create_task(self._play(stream, footage))
        self.holders += 1
        try:
            yield stream
        finally:
            self.holders -= 1

    async def _play(self, stream: Stream, footage: Footage) -> None:
        began = time.monotonic()
        rate = stream.format.clock_rate
        number = 0
        while not stream.closed:
            loop, at = divmod(number, len(footage.frames))
            data, pts, keyframe = footage.frames[at]
            due = began + number * footage.length / rate
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            pts += loop * len(footage.frames) * footage.length
            if stream.format.codec == "H264":
                self.sent.add(data)
            stream.publish(Packet(data, pts, time.monotonic(), keyframe))
            number += 1

    def end(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    async def aclose(self) -> None:
        self.end()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


class Cameras(dict[str, Camera]):
    """A StreamSource of cameras by their names."""

    @contextlib.asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        name, _, part = stream_id.partition("/")
        camera = self.get(name)
        if camera is None:
            raise NoSuchStream(f"nobody has {stream_id}")
        async with camera.open(stream_id, part) as stream:
            yield stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for camera in self.values():
            await camera.aclose()
