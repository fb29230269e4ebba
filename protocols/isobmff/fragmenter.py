"""Frames in decoding order to fragments: decoding times found, durations known, cut at a limit."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from protocols.isobmff.tracks import VIDEO_TIMESCALE, AvcTrack, SoundTrack
from protocols.isobmff.writer import Run, Sample, fragment
from protocols.payloads.h264 import NalType, split_byte_stream

MAX_REORDER = 16
"""Frames a decoder may hold back (ITU-T H.264 A.3.1 j)."""
SOUND_WAITING = 1024
SILENCE_AFTER = 2.0
"""Seconds by which sound may be behind its pictures; then it is taken to have stopped, and silence fills in:
players wait for sound that a file announces, and the pictures would stand still with it."""
SILENCE_AT_END = 1.0
"""The same at the end of a file: what comes later is not of it."""
FIRST_DURATION = 3600
"""What a picture is taken to last when none follows it: 40 ms."""

PICTURES, SOUND = 1, 2


@dataclass(frozen=True, slots=True)
class MediaFragment:
    """moof and mdat; `start` and `duration` in 1/90000 s, `keyframe`: decoding may start here."""

    data: bytes
    start: int
    duration: int
    keyframe: bool


def is_closed(access_unit: bytes) -> bool:
    """Whether nothing that follows is shown before this key frame: an IDR picture, not an open group's."""
    return any(nal[0] & 0x1F == NalType.IDR_SLICE for nal in split_byte_stream(access_unit))


class DecodeTimes:
    """Decoding times of frames that only say when they are shown.

    The n-th frame since a key frame gets the n-th smallest presentation time, so composition offsets are
    signed (trun version 1) and their sum is exact. How many frames must be seen ahead is learnt from what
    comes: none where there are no B-frames, and then a time is known at once. Times that stand still are no
    reordering.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._waiting: list[int] = []
        self._last: int | None = None
        self._shown: int | None = None

    def push(self, time: int, keyframe: bool) -> list[int]:
        """Takes the next frame's presentation time; gives decoding times of the oldest without one."""
        known = self.flush() if keyframe else []
        if self._shown is not None and time < self._shown and not keyframe:
            self.depth = min(self.depth + 1, MAX_REORDER)
        heapq.heappush(self._waiting, time)
        if len(self._waiting) > self.depth or keyframe:
            known.append(self._next())
        return known

    def flush(self) -> list[int]:
        """The times of all frames that wait: nothing pushed later is shown before them."""
        return [self._next() for _ in range(len(self._waiting))]

    def _next(self) -> int:
        time = self._shown = heapq.heappop(self._waiting)
        self._last = time if self._last is None else max(time, self._last + 1)
        return self._last


@dataclass(slots=True)
class _Frame:
    data: bytes
    shown: int
    keyframe: bool


class Fragmenter:
    """Cuts pictures, with the sound of the same time, into fragments of at most `limit` 1/90000 s.

    A key frame begins a fragment, if the one before has at least `least` or `cut_at_key` says so.
    `live`: who plays has what went out already, and waits for the sound that belongs to it.
    `dropped_sound` counts sound beyond what may wait, or that came too late.
    """

    def __init__(
        self,
        pictures: AvcTrack,
        sound: SoundTrack | None,
        limit: int,
        *,
        least: int = 0,
        live: bool = False,
    ) -> None:
        self.dropped_sound = 0
        self.cut_at_key = False
        self.least = least
        self._pictures = pictures
        self._sound = sound
        self.limit = limit
        self.live = live
        self._times = DecodeTimes()
        self._untimed: deque[_Frame] = deque()
        self._pending: tuple[_Frame, int] | None = None
        self._samples: list[Sample] = []
        self._start = 0
        self._duration = 0
        self._last_duration = FIRST_DURATION
        self._sequence = 0
        self._heard: deque[tuple[bytes, int, int]] = deque()
        self._sound_end = 0
        self._sounding = False
        self.silent = False
        self._patience = SILENCE_AFTER

    def expect_sound(self, silent: bool) -> None:
        """There was sound before the first picture here: if none comes, it is silence; at once if it was."""
        self._sounding, self.silent = True, silent

    def push(self, access_unit: bytes, time: int, keyframe: bool) -> list[MediaFragment]:
        """Takes the next frame in decoding order, shown at `time` (1/90000 s).

        Raises ValueError when it is not a byte stream.
        """
        data = self._pictures.sample(access_unit)
        known = self._times.push(time, keyframe and is_closed(access_unit))
        self._untimed.append(_Frame(data, time, keyframe))
        return [done for decode_time in known for done in self._timed(decode_time)]

    def push_sound(self, data: bytes, time: int, duration: int) -> None:
        """Takes a packet of sound; times in the sound track's timescale."""
        last = self._heard[-1][1] if self._heard else self._sound_end - 1
        if self._sound is None or time <= last or len(self._heard) >= SOUND_WAITING:
            self.dropped_sound += 1
            return
        if self.live and self._sequence and not self._sounding:
            self._fill_until(time)
        self._heard.append((data, time, duration))
        self._sounding, self.silent = True, False

    def flush(self, *, all_sound: bool = True, until: int | None = None) -> list[MediaFragment]:
        """What is left, at the end of the stream or `until` the time of the picture that follows elsewhere;
        without `all_sound` only the sound beside the pictures."""
        done = [one for decode_time in self._times.flush() for one in self._timed(decode_time)]
        if self._pending is not None:
            lasts = self._last_duration if until is None else max(until - self._pending[1], 1)
            done += self._append(lasts)
        self._patience = SILENCE_AT_END
        return done + self._emit(all_sound=all_sound)

    def later_sound(self) -> list[tuple[bytes, int, int]]:
        """Takes out the sound beyond the pictures: data, time and duration of each packet."""
        later = list(self._heard)
        self._heard.clear()
        return later

    def _timed(self, decode_time: int) -> list[MediaFragment]:
        frame = self._untimed.popleft()
        done = [] if self._pending is None else self._append(decode_time - self._pending[1])
        if frame.keyframe and (self.cut_at_key or self._duration >= self.least):
            done += self._emit()
        self._pending = (frame, decode_time)
        return done

    def _append(self, duration: int) -> list[MediaFragment]:
        """The pending frame lasts `duration`; the run is cut where the next would not fit."""
        assert self._pending is not None
        frame, decode_time = self._pending
        self._pending = None
        done = self._emit() if self._duration + duration > self.limit else []
        if not self._samples:
            self._start = decode_time
        self._samples.append(Sample(frame.data, duration, frame.shown - decode_time, frame.keyframe))
        self._duration += duration
        self._last_duration = duration
        return done + (self._emit() if self._duration + duration > self.limit else [])

    def _emit(self, *, all_sound: bool = False) -> list[MediaFragment]:
        if not self._samples:
            return []
        self._sequence += 1
        runs = [Run(PICTURES, self._start, tuple(self._samples)), self._sound_run(all_sound)]
        done = MediaFragment(
            fragment(self._sequence, runs), self._start, self._duration, self._samples[0].keyframe
        )
        self._samples = []
        self._duration = 0
        return [done]

    def _fill(self, end: int) -> None:
        """Silence up to `end` where sound has stopped."""
        if self._sound is None or not (self._sounding or self.live):
            return
        data, duration = self._sound.silence
        at = self._heard[-1][1] + self._heard[-1][2] if self._heard else self._sound_end
        if not data or end - at <= (0 if self.silent else self._patience * self._sound.timescale):
            return
        self.silent = True
        while at < end and len(self._heard) < SOUND_WAITING:
            self._heard.append((data, at, duration))
            at += duration

    def _fill_until(self, time: int) -> None:
        """Silence from the first picture to the first sound, where pictures went out without any: a player
        that is told of sound shows none of them before it has some."""
        data, duration = self._sound.silence if self._sound is not None else (b"", 0)
        if data and time // duration < SOUND_WAITING:
            self._heard.extend((data, at, duration) for at in range(0, max(time - duration, 0) + 1, duration))

    def _sound_run(self, all_sound: bool) -> Run:
        """The sound before the end of the pictures; a gap is bridged by the packet before it."""
        scale = self._sound.timescale if self._sound else VIDEO_TIMESCALE
        end = (self._start + self._duration) * scale // VIDEO_TIMESCALE
        self._fill(end)
        taken: list[tuple[bytes, int, int]] = []
        while self._heard and (all_sound or self._heard[0][1] < end):
            taken.append(self._heard.popleft())
        if not taken:
            return Run(SOUND, 0, ())
        following = [time for _, time, _ in taken[1:]] + [taken[-1][1] + taken[-1][2]]
        self._sound_end = following[-1]
        samples = (
            Sample(data, after - time) for (data, time, _), after in zip(taken, following, strict=True)
        )
        return Run(SOUND, taken[0][1], tuple(samples))
