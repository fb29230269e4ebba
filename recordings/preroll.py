"""The last seconds of a camera, coded as they came: what a clip is cut from.

    keeper = PrerollKeeper("gate", source, clock, seconds=15.0)
    keeper.start(scope)                      holds the camera's stream and opens it again when it ends
    footage = keeper.ring.footage()          packets from a key frame on, on one time line

A ring is bounded in seconds and bytes; what it gives begins at a key frame. A stream that was opened again,
or whose time jumped, is put on the same time line by when its packets came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from foundation.clock import Clock
from foundation.tasks import Backoff, TaskScope
from media.packet import Format, Packet
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamSource, StreamUnavailable
from protocols.isobmff.tracks import VIDEO_TIMESCALE

RING_BYTES = 32 << 20
JUMP_SECONDS = 10.0
"""Media time that is so far from arrival's is another time."""
SOUND_AGAIN_SECONDS = 10.0
MOST_SOUND = 300.0
"""Seconds of sound that are kept at the most, beside groups of pictures of whatever length."""


@dataclass(frozen=True, slots=True)
class Footage:
    """Coded H.264 in decoding order from a key frame on, `pts` in 1/90000 s of one time line, with the sound
    beside it; `arrival` in monotonic seconds of this machine."""

    pictures: tuple[Packet, ...] = ()
    sound: tuple[Packet, ...] = ()
    sound_format: Format | None = None


class TimeLine:
    """Packets of one stream after another, with `pts` that goes on by arrival where one ends."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._origin: float | None = None
        self._shift: int | None = None
        self._last = 0

    def cut(self) -> None:
        """The next packet is of another stream."""
        self._shift = None

    def place(self, packet: Packet) -> Packet:
        """The packet with its `pts` on the line; what is not shown in order stays so."""
        if self._origin is None:
            self._origin = packet.arrival
        meant = round((packet.arrival - self._origin) * self._rate)
        if self._shift is not None and abs(packet.pts + self._shift - meant) > JUMP_SECONDS * self._rate:
            self._shift = None
        if self._shift is None:
            self._shift = max(meant, self._last + self._rate // 100) - packet.pts
        self._last = max(self._last, packet.pts + self._shift)
        return replace(packet, pts=packet.pts + self._shift)


class Ring:
    """Whole groups of pictures that cover at least `seconds`, where `limit` bytes hold so many."""

    def __init__(self, seconds: float, limit: int = RING_BYTES) -> None:
        self.dropped = 0
        self.sound_format: Format | None = None
        self._seconds = seconds
        self._limit = limit
        self._groups: deque[list[Packet]] = deque()
        self._sizes: deque[int] = deque()
        self._sound: deque[Packet] = deque()
        self._waiting = True
        self._line = TimeLine(VIDEO_TIMESCALE)
        self._sound_line = TimeLine(VIDEO_TIMESCALE)
        self._again_until: float | None = None

    @property
    def latest(self) -> float:
        """When the newest picture came, monotonic seconds; 0 without one."""
        return self._groups[-1][-1].arrival if self._groups else 0.0

    def begin(self) -> None:
        """A stream was opened. One that was only out of reach gives its group of pictures again: what is here
        already is passed over, and what follows goes on where it was."""
        self._again_until = self.latest or None
        self._waiting = True
        if self._again_until is None:
            self._line.cut()

    def begin_sound(self, coded: Format) -> None:
        """A stream of sound was opened; sound of another format is not kept beside it."""
        if coded != self.sound_format:
            self._sound.clear()
            self._sound_line = TimeLine(coded.clock_rate)
        self._sound_line.cut()
        self.sound_format = coded

    def take(self, packet: Packet) -> None:
        """The next picture; a damaged one, and those that need it, are left out and counted."""
        if self._again_until is not None:
            if packet.arrival <= self._again_until:
                self._waiting &= packet.arrival < self._again_until
                return
            self._again_until = None
            if self._waiting:
                self._line.cut()
        if packet.damaged or (self._waiting and not packet.keyframe):
            self._waiting = True
            self.dropped += 1
            return
        self._waiting = False
        placed = self._line.place(packet)
        if packet.keyframe or not self._groups:
            self._groups.append([])
            self._sizes.append(0)
        self._groups[-1].append(placed)
        self._sizes[-1] += len(packet)
        self._trim(packet.arrival)

    def take_sound(self, packet: Packet) -> None:
        """The next packet of sound."""
        if packet.damaged:
            return
        self._sound.append(self._sound_line.place(packet))
        first = self._groups[0][0].arrival if self._groups else packet.arrival - self._seconds
        first = max(first, packet.arrival - MOST_SOUND)  # also where pictures have stopped
        while self._sound and self._sound[0].arrival < first - 1.0:
            self._sound.popleft()

    def footage(self) -> Footage:
        """Everything that is kept now."""
        pictures = tuple(packet for group in self._groups for packet in group)
        return Footage(pictures, tuple(self._sound), self.sound_format if self._sound else None)

    def _trim(self, now: float) -> None:
        """The oldest group goes when the next one covers the seconds, or the bytes do not hold both."""
        while len(self._groups) > 1 and (
            self._groups[1][0].arrival <= now - self._seconds or sum(self._sizes) > self._limit
        ):
            self._forget()
        if sum(self._sizes) > self._limit:
            self._forget()
            self._waiting = True

    def _forget(self) -> None:
        self._groups.popleft()
        self._sizes.popleft()


class PrerollKeeper:
    """Fills the ring of one camera; `since` is when it began to (monotonic seconds), `fault` why not."""

    def __init__(self, camera_id: str, source: StreamSource, clock: Clock, *, seconds: float) -> None:
        self.camera_id = camera_id
        self.ring = Ring(seconds)
        self.since = clock.monotonic()
        self.fault = ""
        self._source = source
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, scope: TaskScope) -> None:
        """To be called once."""
        pictures, sound = self._keep_pictures, self._keep_sound
        self._tasks.append(scope.supervise(f"preroll.{self.camera_id}", pictures))
        self._tasks.append(scope.supervise(f"preroll.{self.camera_id}.sound", sound))

    async def aclose(self) -> None:
        """Let go of the camera."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_pictures(self) -> None:
        backoff = Backoff(first=0.3, limit=5.0)
        while True:
            try:
                async with self._source.open(f"camera:{self.camera_id}") as stream:
                    backoff.reset()
                    await self._take_pictures(stream)
                    self.fault = "the camera's stream ended"
            except StreamUnavailable as error:
                self.fault = str(error)
            await asyncio.sleep(backoff.next_delay())

    async def _take_pictures(self, stream: Stream) -> None:
        self.fault = ""
        if stream.format.codec != "H264":
            self.fault = f"the camera sends {stream.format.codec}, and clips are made of H264 only"
        self.ring.begin()
        await _drain(stream, self.ring.take if not self.fault else lambda packet: None)

    async def _keep_sound(self) -> None:
        while True:
            with suppress(StreamUnavailable, NoSuchStream):
                async with self._source.open(f"camera:{self.camera_id}/sound") as stream:
                    self.ring.begin_sound(stream.format)
                    await _drain(stream, self.ring.take_sound)
            await asyncio.sleep(SOUND_AGAIN_SECONDS)


async def _drain(stream: Stream, take: Callable[[Packet], None]) -> None:
    async with stream.reader() as reader:
        async for packet in reader:
            take(packet)
