"""A stream, and sound beside it, as a live playlist; whoever waits for a part is woken as it appears."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from foundation.clock import Clock
from media.fragments import Began, FragmentCounts, Made, StreamFragments
from media.stream import Reader, Stream
from protocols.isobmff.tracks import VIDEO_TIMESCALE
from stream_relay.hls.playlist import PART_SECONDS, SEGMENT_SECONDS, TARGET_DURATION, LivePlaylist, Part

JUMP_SECONDS = 2.0
"""A longer pause is a discontinuity: no part may be as long as that."""
LEAST_PART = 0.85
"""Of the part target: no part is shorter (RFC 8216bis 4.4.3.7) but a segment's last."""
EARLY = 0.25
"""Seconds that a segment may be short of SEGMENT_SECONDS where a key frame comes."""
WAITING = 20_000
"""Requests that may wait on one broadcast."""


class TooManyWaiting(Exception):
    """More requests wait than this broadcast holds."""


class LiveBroadcast:
    """`run` until a stream ends, and again with the next: the playlist goes on behind a discontinuity. `end`
    says that nothing follows.

    `dropped` frames were lost because this process was too slow; `latency` are the seconds from the arrival
    of the newest part's first picture on this node until the part could be had.
    """

    def __init__(self, clock: Clock, *, part_seconds: float = PART_SECONDS, first: int = 0) -> None:
        self.playlist = LivePlaylist(part_seconds=part_seconds, first=first)
        self.latency = 0.0
        self.codecs = ""
        self.size = (0, 0)
        self.dropped = 0
        self.waiting = 0
        self.counts = FragmentCounts()
        self._clock = clock
        self._changed = asyncio.Event()
        self._origin = clock.now()
        self._segment_start = 0.0

    async def run(self, video: Stream, sound: Stream | None = None) -> None:
        """Raises media.fragments.UnsupportedFormat for a stream that MP4 cannot hold."""
        fragments = StreamFragments(
            video.format,
            sound.format if sound else None,
            fragment_seconds=self.playlist.part_seconds,
            jump_seconds=JUMP_SECONDS,
            least_seconds=LEAST_PART * self.playlist.part_seconds,
        )
        self.counts = fragments.counts
        listening: asyncio.Task[None] | None = None
        before = self.dropped
        part_began = self._clock.monotonic()
        if sound is not None:
            listening = asyncio.create_task(_listen(sound.reader(), fragments), name=f"sound of {video.id}")
        try:
            async with video.reader() as pictures:
                async for packet in pictures:
                    if self.playlist.ended:
                        break
                    due = fragments.running - self._segment_start >= SEGMENT_SECONDS - EARLY
                    ends = due and packet.keyframe and not packet.damaged
                    fragments.cut_at_key = ends
                    made = fragments.take(packet)
                    if made:
                        self.latency = max(self._clock.monotonic() - part_began, 0.0)
                        part_began = packet.arrival
                    self._take(made)
                    self.dropped = before + pictures.dropped
                    if ends:
                        self._segment_start = fragments.running
                        self.playlist.end_segment()
                        self._wake()
                    elif self.playlist.key_wanted:
                        video.request_keyframe()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            if not self.playlist.ended:
                self._take(fragments.end())
                self.playlist.end_segment()
            self._wake()

    def end(self) -> None:
        """Nothing follows: the playlist says so, and whoever waits is woken."""
        self.playlist.end()
        self._wake()

    async def wait_for(self, msn: int, part: int | None) -> bool:
        """True once the playlist has it; False after three target durations. Raises TooManyWaiting."""
        if self.waiting >= WAITING:
            raise TooManyWaiting(f"{self.waiting} requests wait already")
        self.waiting += 1
        try:
            async with asyncio.timeout(3 * TARGET_DURATION):
                while not self.playlist.has(msn, part):
                    await self._changed.wait()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return True

    def _take(self, made: list[Made]) -> None:
        for one in made:
            if isinstance(one, Began):
                self.codecs, self.size = one.codecs, (one.width, one.height)
                age = max(self._clock.monotonic() - one.arrival, 0.0)
                self._origin = self._clock.now() - timedelta(seconds=age)
                self._segment_start = 0.0
                self.playlist.begin(one.init)
            else:
                at = self._origin + timedelta(seconds=one.start / VIDEO_TIMESCALE)
                self.playlist.add(Part(one.data, one.duration / VIDEO_TIMESCALE, one.keyframe), at)
                if (parts := self.playlist.next_part[1]) < 2:  # it began a segment, or ended one
                    began = one.start if parts else one.start + one.duration
                    self._segment_start = began / VIDEO_TIMESCALE
        if made:
            self._wake()

    def _wake(self) -> None:
        """Whoever waits looks again; who comes later waits for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()


async def _listen(reader: Reader, fragments: StreamFragments) -> None:
    async with reader:
        async for packet in reader:
            fragments.take_sound(packet)
