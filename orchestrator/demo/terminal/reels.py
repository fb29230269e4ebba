"""Coded pictures and sound of test terminals, made once and played again and again.

A `Shot` says what is filmed and how it is coded; `film` makes its reel, a closed group of pictures that
begins with a key frame, so that it can start anew at any time. A `LoopedCamera` plays a reel; a `LiveCamera`
codes every picture as it is due, for tests that need a stream without an end to its groups of pictures.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from media.codec_worker import CodecPool, OldestInbox
from media.codecs import CLOCK, VideoCodec, VideoEncoder, VideoTarget
from media.sound_codecs import FRAME, RATE, SoundCodec, sound_encoder
from orchestrator.demo.terminal.footage import NUMBERS, Footage
from protocols.payloads.h264 import join_byte_stream, split_byte_stream

AMPLITUDE = 0.25
"""Of a tone, against full scale: -12 dBFS."""
_REMEMBERED = 1024
_SOONEST = 5
"""Pictures between two key frames at least: a loop does not restart on its own first picture."""
_TAPE_SECONDS = {SoundCodec.OPUS: 4}


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One coded picture, and the number burnt into it (if its footage is numbered)."""

    data: bytes
    keyframe: bool
    number: int


Reel = tuple[CodedFrame, ...]
Send = Callable[[CodedFrame, int], None]
"""Takes a coded picture and its media time (1/90000 s)."""


@dataclass(frozen=True, slots=True)
class Shot:
    """What is filmed and how: the name of a reel."""

    footage: Footage
    target: VideoTarget
    frames: int


def film(shot: Shot) -> Reel:
    """Code the whole reel; for a codec thread."""
    encoder = VideoEncoder(shot.target)
    reel: list[CodedFrame] = []
    for number in range(shot.frames):
        reel += _coded(encoder, shot.footage, number, number * CLOCK // shot.target.fps)
    return tuple(reel)


def _coded(encoder: VideoEncoder, footage: Footage, number: int, time: int) -> list[CodedFrame]:
    codec = encoder.target.codec
    return [
        CodedFrame(canonical(codec, packet.data), packet.keyframe, number % NUMBERS)
        for packet in encoder.encode(footage.picture(number, time))
    ]


def canonical(codec: VideoCodec, data: bytes) -> bytes:
    """A coded picture in the one way that packets carry it: for H.264 every start code has four bytes."""
    return join_byte_stream(split_byte_stream(data)) if codec is VideoCodec.H264 else data


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record_tone(codec: SoundCodec, frequency: float | None) -> tuple[bytes, ...]:
    """Payloads of 20 ms each that loop without a click (G.711): a tone, rounded to whole Hz, or silence.

    The filters and the encoder run a second before what is kept.
    """
    seconds = _TAPE_SECONDS.get(codec, 1)
    encoder = sound_encoder(codec)
    times = np.arange(RATE * (1 + seconds))
    wave = np.zeros(len(times)) if frequency is None else np.sin(2 * np.pi * round(frequency) * times / RATE)
    samples = np.rint(wave * AMPLITUDE * 32767).astype(np.int16)
    payloads = [encoder.encode(samples[at : at + FRAME]) for at in range(0, len(samples), FRAME)]
    return tuple(payloads[RATE // FRAME :])


class Camera(Protocol):
    """Gives the pictures of one call as they are due."""

    def tick(self, now: float) -> None: ...

    def restart(self) -> None:
        """A key frame is wanted."""
        ...

    def sent_at(self, number: int) -> float | None:
        """When the picture with this burnt-in number was given last (monotonic seconds)."""
        ...

    async def aclose(self) -> None: ...


class _Cadence:
    """Which pictures are due: `fps` a second from the first tick on; a stall skips what it missed."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._began: float | None = None
        self._next = 0

    def due(self, now: float) -> int | None:
        """The index of the picture that is due, None until the next is."""
        if self._began is None:
            self._began = now
        index = int((now - self._began) * self._fps + 1e-6)
        if index < self._next:
            return None
        self._next = index + 1
        return index

    def time(self, index: int) -> int:
        return index * CLOCK // self._fps


class _Log:
    """When each number was last given, of the newest ones."""

    def __init__(self) -> None:
        self._times: OrderedDict[int, float] = OrderedDict()

    def note(self, number: int, now: float) -> None:
        self._times[number] = now
        self._times.move_to_end(number)
        if len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)

    def time(self, number: int) -> float | None:
        return self._times.get(number)


class LoopedCamera:
    """Plays a reel; another one takes over with its first picture."""

    def __init__(self, reel: Reel, fps: int, send: Send) -> None:
        self._reel = reel
        self._send = send
        self._cadence = _Cadence(fps)
        self._log = _Log()
        self._at = 0
        self._key_wanted = False

    def tick(self, now: float) -> None:
        index = self._cadence.due(now)
        if index is None:
            return
        if self._at >= len(self._reel) or (self._key_wanted and self._at >= _SOONEST):
            self._at = 0
        frame = self._reel[self._at]
        self._at += 1
        if frame.keyframe:
            self._key_wanted = False
        self._log.note(frame.number, now)
        self._send(frame, self._cadence.time(index))

    def restart(self) -> None:
        self._key_wanted = True

    def sent_at(self, number: int) -> float | None:
        return self._log.time(number)

    async def aclose(self) -> None:
        return


class LiveCamera:
    """Draws and codes each picture when it is due; what the codec thread cannot keep up with is skipped."""

    def __init__(
        self, shot: Shot, send: Send, pool: CodecPool, loop: asyncio.AbstractEventLoop, name: str
    ) -> None:
        self._footage = shot.footage
        self._encoder = VideoEncoder(shot.target)
        self._send = send
        self._cadence = _Cadence(shot.target.fps)
        self._log = _Log()
        self._lock = threading.Lock()
        self._lane = pool.lane(
            self._code, inbox=OldestInbox[int](2), deliver=self._deliver, loop=loop, name=f"camera {name}"
        )

    def tick(self, now: float) -> None:
        index = self._cadence.due(now)
        if index is not None:
            self._log.note(index % NUMBERS, now)
            self._lane.put(index)

    def _code(self, index: int) -> list[tuple[CodedFrame, int]]:
        time = self._cadence.time(index)
        return [(frame, time) for frame in _coded(self._encoder, self._footage, index, time)]

    def _deliver(self, coded: Sequence[tuple[CodedFrame, int]]) -> None:
        for frame, time in coded:
            self._send(frame, time)

    def restart(self) -> None:
        self._encoder.request_key_frame()

    def sent_at(self, number: int) -> float | None:
        return self._log.time(number)

    async def aclose(self) -> None:
        await self._lane.aclose()
