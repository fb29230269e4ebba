"""The media playlist and what it names: segments, their parts, which of them are in memory. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stream_relay.hls.part_target import LEAST_PART, LONGEST_PART, PART_SECONDS

SEGMENT_SECONDS = 2.0
"""A segment ends at the first key frame after so long ..."""
TARGET_DURATION = math.ceil(LONGEST_PART)
"""... or without one before it would be longer than this (EXT-X-TARGETDURATION, 4.4.3.1)."""
LATEST_PARTS = 16
LISTED_SEGMENTS = 30
KEPT_SEGMENTS = 34
"""A segment stays in memory a while after it left the playlist (6.2.2)."""
KEPT_BYTES = 64 << 20
PARTS_LISTED_SECONDS = 3 * TARGET_DURATION
"""Parts older than three target durations are not listed any more (4.4.4.9)."""
SKIP_UNTIL = 6 * TARGET_DURATION
"""CAN-SKIP-UNTIL (4.4.3.8): at least six target durations."""


@dataclass(frozen=True, slots=True)
class Part:
    """A partial segment (4.4.4.9): one fragment; `independent` when a key frame begins it."""

    data: bytes
    duration: float
    independent: bool


@dataclass(slots=True)
class Segment:
    """A media segment in the making or whole. `init` numbers its EXT-X-MAP; `target` is the part target that
    its parts keep to, None when they do not: then they are not listed."""

    msn: int
    init: int
    began: datetime
    discontinuous: bool
    target: float | None
    parts: list[Part] = field(default_factory=list)

    @property
    def duration(self) -> float:
        return sum(part.duration for part in self.parts)

    @property
    def data(self) -> bytes:
        return b"".join(part.data for part in self.parts)

    @property
    def size(self) -> int:
        return sum(len(part.data) for part in self.parts)


@dataclass(frozen=True, slots=True)
class RenditionReport:
    """Where another playlist of the same programme stands (4.4.5.4)."""

    uri: str
    last_msn: int
    last_part: int


class LivePlaylist:
    """Holds at most KEPT_SEGMENTS and `kept_bytes`; `evicted` counts whole segments that went for the bytes.

    Media sequence numbers and those of inits begin at `first`: one that grows with the wall clock keeps
    addresses apart that caches and players may hold from an earlier run (6.2.1 forbids numbers that go back).
    Discontinuities are counted from 0: players walk through all their numbers. A part is (msn, index), the
    next to come is `next_part`. Only parts that keep to the part target are listed: `misfits` counts those
    of the latest that did not. One that is too short stays in its segment: players stand still where
    segments end without a key frame, and do not mind a short part now and then.
    """

    def __init__(
        self, *, part_seconds: float = PART_SECONDS, kept_bytes: int = KEPT_BYTES, first: int = 0
    ) -> None:
        self.part_seconds = part_seconds
        self.ended = False
        self.evicted = 0
        self.first = first
        self._kept_bytes = kept_bytes
        self._inits: dict[int, bytes] = {}
        self._next_init = first
        self._whole: deque[Segment] = deque()
        self._current: Segment | None = None
        self._next_msn = first
        self._discontinuities = 0
        self._bytes = 0
        self._rendered: dict[bool, str] = {}
        self._misfits: deque[bool] = deque(maxlen=LATEST_PARTS)

    @property
    def misfits(self) -> int:
        return sum(self._misfits)

    @property
    def size(self) -> int:
        """Bytes of all parts in memory."""
        return self._bytes

    @property
    def begun(self) -> bool:
        """A first part has come."""
        return self.next_part != (self.first, 0)

    @property
    def next_part(self) -> tuple[int, int]:
        """Media sequence number and index of the part that comes next."""
        return (self._current.msn, len(self._current.parts)) if self._current else (self._next_msn, 0)

    @property
    def key_wanted(self) -> bool:
        """The segment is long enough: the next key frame ends it."""
        return self._current is not None and self._current.duration >= SEGMENT_SECONDS

    @property
    def peak_rate(self) -> int:
        """Bits a second of the dearest segment in memory (BANDWIDTH, 4.4.6.2)."""
        made = [*self._whole, *([self._current] if self._current else [])]
        return max((round(8 * one.size / one.duration) for one in made if one.duration), default=0)

    def begin(self, init: bytes) -> None:
        """What follows needs this init; after the first it is a discontinuity (4.4.4.3)."""
        self.end_segment()
        self._inits[self._next_init] = init
        self._next_init += 1
        self._misfits.clear()
        self._rendered.clear()

    def add(self, part: Part, at: datetime, *, last: bool = False) -> None:
        """The next part, which began at `at`; `last`: its segment ends with it, so that it may be short.
        Raises ValueError before `begin` and after `end`."""
        if self.ended or not self._inits:
            raise ValueError("a part outside the playlist's life")
        duration = round(part.duration, 4)
        long, short = duration > self.part_seconds, duration < LEAST_PART * self.part_seconds
        current = self._current
        if current is not None and (long or round(current.duration + duration, 3) > TARGET_DURATION):
            self.end_segment()
        if self._current is None:
            init = self._next_init - 1
            previous = self._whole[-1].init if self._whole else init
            target = None if long else self.part_seconds
            self._current = Segment(self._next_msn, init, at, previous != init, target)
            self._next_msn += 1
        self._current.parts.append(part)
        self._bytes += len(part.data)
        self._misfits.append(long or (short and not last))
        if last or long or round(self._current.duration + self.part_seconds, 3) > TARGET_DURATION:
            self.end_segment()
        self._evict()
        self._rendered.clear()

    def retarget(self, part_seconds: float) -> None:
        """Another part target from the next segment on; parts of before are not listed any more."""
        self.end_segment()
        self.part_seconds = part_seconds
        self._misfits.clear()
        self._rendered.clear()

    def end_segment(self) -> None:
        """The next part begins another segment: a key frame has come."""
        if self._current is not None:
            self._whole.append(self._current)
            self._current = None
            self._evict()
            self._rendered.clear()

    def end(self) -> None:
        """No part follows (EXT-X-ENDLIST, 4.4.3.4)."""
        self.end_segment()
        self.ended = True
        self._rendered.clear()

    def forget(self) -> None:
        """After the end: only the text is kept, nothing of the media."""
        self.render()
        self._whole.clear()
        self._inits.clear()
        self._bytes = 0

    def init(self, number: int) -> bytes | None:
        return self._inits.get(number)

    def segment(self, msn: int) -> bytes | None:
        """A whole segment, None when it is not, or not any more."""
        found = self._find(msn)
        return None if found is None or found is self._current else found.data

    def part(self, msn: int, index: int) -> bytes | None:
        found = self._find(msn)
        return found.parts[index].data if found is not None and 0 <= index < len(found.parts) else None

    def has(self, msn: int, part: int | None) -> bool:
        """Whether the playlist has this part (or a later one), or this whole segment (6.2.5.2)."""
        if self.ended:
            return True
        next_msn, next_index = self.next_part
        if part is None:
            return msn < next_msn
        return msn < next_msn or (msn == next_msn and part < next_index)

    def beyond_parts(self, msn: int, part: int | None) -> bool:
        """Whether it asks for more parts of a segment that has ended, and only segments without parts follow:
        hls.js does, when it has these already, and then stands still if it is told nothing new."""
        if part is None or self.ended or self._current is not None:
            return False
        after = [one for one in self._whole if one.msn >= msn]
        if len(after) < 2 or after[0].msn != msn or part < len(after[0].parts):
            return False
        return all(one.target != self.part_seconds for one in after[1:])

    def too_far(self, msn: int, part: int | None) -> bool:
        """Beyond what a player can know of (6.2.5.2): answered 400 instead of waited for."""
        last = self.next_part[0] - 1
        parts_of_target = math.ceil(TARGET_DURATION / self.part_seconds)
        return msn > last + 2 or (part is not None and part > 2 * parts_of_target)

    def render(self, *, skip: bool = False, reports: Sequence[RenditionReport] = ()) -> str:
        """The playlist as text; `skip`: as a delta update, when it can leave something out (6.2.5.1)."""
        lines = self._rendered.get(skip)
        if lines is None:  # a crowd asks for the same text
            lines = self._rendered[skip] = "\n".join(self._lines(skip)) + "\n"
        return lines + "".join(
            f'#EXT-X-RENDITION-REPORT:URI="{one.uri}",LAST-MSN={one.last_msn},LAST-PART={one.last_part}\n'
            for one in reports
        )

    def _lines(self, skip: bool) -> list[str]:
        listed = [*self._whole, *([self._current] if self._current else [])][-LISTED_SEGMENTS - 1 :]
        first = listed[0].msn if listed else self._next_msn
        skipped = self._skippable(listed) if skip else 0
        lines = self._head(first)
        if skipped:
            lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")
        with_parts = self._with_parts(listed)
        for number, segment in enumerate(listed):
            if number < skipped:
                continue
            map_needed = number == 0 or listed[number - 1].init != segment.init
            lines += self._segment_lines(segment, map_needed, segment.msn in with_parts)
        if self.ended:
            lines.append("#EXT-X-ENDLIST")
        elif self._inits:
            msn, index = self.next_part
            lines.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="part-{msn}.{index}.m4s"')
        return lines

    def _head(self, first: int) -> list[str]:
        before = self._discontinuities + sum(one.discontinuous for one in self._whole if one.msn < first)
        return [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            f"#EXT-X-TARGETDURATION:{TARGET_DURATION}",
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,"
            f"CAN-SKIP-UNTIL={SKIP_UNTIL:.1f},PART-HOLD-BACK={3 * self.part_seconds:.3f},"
            f"HOLD-BACK={3 * TARGET_DURATION:.1f}",
            f"#EXT-X-PART-INF:PART-TARGET={self.part_seconds:.3f}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{before}",
        ]

    def _segment_lines(self, segment: Segment, map_needed: bool, with_parts: bool) -> list[str]:
        lines = []
        if segment.discontinuous:
            lines.append("#EXT-X-DISCONTINUITY")
        if map_needed:
            lines.append(f'#EXT-X-MAP:URI="init-{segment.init}.mp4"')
        began = segment.began.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{began}")
        if with_parts:
            for index, part in enumerate(segment.parts):
                independent = ",INDEPENDENT=YES" if part.independent else ""
                lines.append(
                    f'#EXT-X-PART:DURATION={part.duration:.5f},URI="part-{segment.msn}.{index}.m4s"{independent}'
                )
        if segment is not self._current:
            lines += [f"#EXTINF:{segment.duration:.5f},", f"seg-{segment.msn}.m4s"]
        return lines

    def _with_parts(self, listed: Sequence[Segment]) -> set[int]:
        """The segments near enough to the end that their parts are listed, if they keep to the target."""
        found, seconds = set(), 0.0
        for segment in reversed(listed):
            if seconds >= PARTS_LISTED_SECONDS:
                break
            if segment.target == self.part_seconds:
                found.add(segment.msn)
            seconds += segment.duration
        return found

    def _skippable(self, listed: Sequence[Segment]) -> int:
        """Segments older than the skip boundary, all without a tag that a player would miss."""
        seconds, count = 0.0, len(listed)
        for segment in reversed(listed):
            if seconds >= SKIP_UNTIL:
                break
            seconds += segment.duration
            count -= 1
        return count

    def _evict(self) -> None:
        while len(self._whole) > 1 and (len(self._whole) > KEPT_SEGMENTS or self._bytes > self._kept_bytes):
            if len(self._whole) <= KEPT_SEGMENTS:
                self.evicted += 1
            gone = self._whole.popleft()
            self._bytes -= gone.size
            self._discontinuities += gone.discontinuous
            for number in [one for one in self._inits if one < self._whole[0].init]:
                del self._inits[number]

    def _find(self, msn: int) -> Segment | None:
        if self._current is not None and self._current.msn == msn:
            return self._current
        first = self._whole[0].msn if self._whole else msn + 1
        return self._whole[msn - first] if 0 <= msn - first < len(self._whole) else None
