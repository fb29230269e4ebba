"""A stream, and sound beside it, as a live playlist; whoever waits for a part is woken as it appears."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from itertools import pairwise

from foundation.clock import Clock
from media.fragments import Began, FragmentCounts, Made, StreamFragments
from media.packet import Packet
from media.stream import Reader, Stream
from protocols.isobmff.tracks import VIDEO_TIMESCALE
from stream_relay.hls.part_target import LEAST_PART, PART_SECONDS, part_target
from stream_relay.hls.playlist import SEGMENT_SECONDS, TARGET_DURATION, LivePlaylist, Part

JUMP_SECONDS = float(TARGET_DURATION)
"""A longer pause is a discontinuity: no segment may be as long as that."""
MISFITS = 2
"""Of the latest parts so many do not keep to the part target: another is chosen."""
PACE_SECONDS = 3.0
"""A stream has to run for so long before its pace is judged anew: an encoder that starts stutters."""
SEEN_FRAMES = 256
"""Of the latest frames, from which a part target is chosen ..."""
SEEN_SECONDS = 6.0
FIRST_SECONDS = 0.48
"""... and of the first ones, which wait for it: no longer than a first part takes."""
FIRST_FRAMES = 32
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
        self._part_began = clock.monotonic()
        self._shown: deque[int] = deque(maxlen=SEEN_FRAMES)

    async def run(self, video: Stream, sound: Stream | None = None) -> None:
        """Raises media.fragments.UnsupportedFormat for a stream that MP4 cannot hold."""
        target = self.playlist.part_seconds
        fragments = StreamFragments(
            video.format,
            sound.format if sound else None,
            fragment_seconds=target,
            jump_seconds=JUMP_SECONDS,
            least_seconds=LEAST_PART * target,
            live=True,
        )
        self.counts = fragments.counts
        self._part_began = self._clock.monotonic()
        listening: asyncio.Task[None] | None = None
        before = self.dropped
        if sound is not None:
            listening = asyncio.create_task(_listen(sound.reader(), fragments), name=f"sound of {video.id}")
        self._shown.clear()
        waiting: list[Packet] = []
        try:
            async with video.reader() as pictures:
                async for packet in pictures:
                    if self.playlist.ended:
                        break
                    self.dropped = before + pictures.dropped
                    self._saw(packet)
                    waiting.append(packet)
                    if not self.playlist.begun and not self._enough_seen(len(waiting)):
                        continue
                    self._choose_target(fragments)
                    for one in waiting:
                        self._pass_on(one, fragments, video)
                    waiting.clear()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            if not self.playlist.ended:
                for one in waiting:
                    self._pass_on(one, fragments, video)
                self._take(fragments.end(), last=True)
                self.playlist.end_segment()
            self._wake()

    def _pass_on(self, packet: Packet, fragments: StreamFragments, video: Stream) -> None:
        due = fragments.running - self._segment_start >= SEGMENT_SECONDS - EARLY
        ends = due and packet.keyframe and not packet.damaged
        fragments.cut_at_key = ends
        made = fragments.take(packet)
        if made:
            self.latency = max(self._clock.monotonic() - self._part_began, 0.0)
            self._part_began = packet.arrival
        self._take(made, last=ends)
        if ends:
            self._segment_start = fragments.running
            self.playlist.end_segment()
            self._wake()
        elif self.playlist.key_wanted:
            video.request_keyframe()

    # --- the part target --------------------------------------------------------------------------

    def _saw(self, packet: Packet) -> None:
        """When frames are shown, in their own order; a jump of the time begins anew."""
        if self._shown and abs(packet.pts - self._shown[-1]) > JUMP_SECONDS * VIDEO_TIMESCALE:
            self._shown.clear()
        self._shown.append(packet.pts)
        while self._shown[-1] - self._shown[0] > SEEN_SECONDS * VIDEO_TIMESCALE:
            self._shown.popleft()

    @property
    def _seen_seconds(self) -> float:
        return (max(self._shown) - min(self._shown)) / VIDEO_TIMESCALE

    def _enough_seen(self, frames: int) -> bool:
        return self._seen_seconds >= FIRST_SECONDS or frames >= FIRST_FRAMES

    def _choose_target(self, fragments: StreamFragments) -> None:
        """At the beginning, and again when frames come at another pace than the target was chosen for."""
        playlist = self.playlist
        if playlist.begun and (playlist.misfits < MISFITS or self._seen_seconds < PACE_SECONDS):
            return
        times = sorted(self._shown)
        target = part_target([(b - a) / VIDEO_TIMESCALE for a, b in pairwise(times) if b > a])
        if target != playlist.part_seconds:
            playlist.retarget(target)
            fragments.retarget(target, LEAST_PART * target)

    def end(self) -> None:
        """Nothing follows: the playlist says so, and whoever waits is woken."""
        self.playlist.end()
        self._wake()

    async def wait_for(self, msn: int, part: int | None) -> bool:
        """True once the playlist has it, or, where it asks for parts that will never be, has anything new;
        False after three target durations. Raises TooManyWaiting."""
        if self.waiting >= WAITING:
            raise TooManyWaiting(f"{self.waiting} requests wait already")
        self.waiting += 1
        old = self.playlist.next_part if self.playlist.beyond_parts(msn, part) else None
        try:
            async with asyncio.timeout(3 * TARGET_DURATION):
                while not self.playlist.has(msn, part) or self.playlist.next_part == old:
                    if self.playlist.ended:
                        break
                    await self._changed.wait()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return True

    def _take(self, made: list[Made], *, last: bool) -> None:
        """`last`: what was made ends a segment."""
        for number, one in enumerate(made, 1):
            if isinstance(one, Began):
                self.codecs, self.size = one.codecs, (one.width, one.height)
                age = max(self._clock.monotonic() - one.arrival, 0.0)
                self._origin = self._clock.now() - timedelta(seconds=age)
                self._segment_start = 0.0
                self.playlist.begin(one.init)
            else:
                at = self._origin + timedelta(seconds=one.start / VIDEO_TIMESCALE)
                ends = isinstance(made[number], Began) if number < len(made) else last
                part = Part(one.data, one.duration / VIDEO_TIMESCALE, one.keyframe)
                self.playlist.add(part, at, last=ends)
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
