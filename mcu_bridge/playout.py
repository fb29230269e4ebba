"""A source's sound between its arrival and the mixer's tick.

    queue = PlayoutQueue(); PlayoutQueue(PATIENT)   of a site; of a camera, whose packets may be long
    queue.push(samples); queue.push_lost(count)      as packets come, or are known to be lost
    queue.pop(quiet) -> 960 samples | None           every 20 ms; None while there is nothing to play
    queue.rest()                                     nothing more comes for a while, on purpose
    queue.depth, queue.target                        seconds held and wished for
    queue.waited                                     seconds a packet waits for its turn, in the mean
    queue.counts

Pure: no clock, no lock. The wished depth starts at 40 ms, grows by 20 ms with each underrun up to 120 ms
(400 where it is patient) and comes back to what was needed: how far the depth fell below its mean at the
moments of playing is remembered by half seconds, and slack that was of no use for two seconds is given up.
Where that proved wrong, by another underrun, the time doubles, up to 16 s; a minute without one halves it.

Excess is worked off by stretching, at most 0.5 % in sound and 10 % in quiet, and from 10 ms up by cutting
out 5 to 15 ms where the sound is most like itself, twice a second; a sender's clock that runs faster or
slower shows as a drifting depth and is met by stretching too. A frame that is missing is continued from the
pitch of what came before, fading over 60 ms; a source that paused longer than that was not late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from media.resampling import Samples
from media.sound_codecs import FRAME, RATE

LEAST = RATE * 40 // 1000
MOST = RATE * 120 // 1000
STEP = RATE * 20 // 1000
OVERFULL = RATE * 200 // 1000
"""Samples held beyond which the oldest go at once."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The greatest wished depth, and what is held at the most, in samples."""

    most: int = MOST
    overfull: int = OVERFULL


SITE = Patience()
PATIENT = Patience(RATE * 400 // 1000, RATE * 800 // 1000)
"""Cameras send up to a quarter of a second in one packet."""
GUARD = RATE * 10 // 1000
"""What is to be left, beside the frame that is played, at the worst moment remembered."""
LOOK = 25
"""Ticks (0.5 s) whose worst moment is remembered as one."""
FIRST_WAIT, LONGEST_WAIT = 4, 32
"""Looks for which slack must have been of no use before it is given up."""
FORGIVEN = 120
"""Looks (60 s) without underrun after which half of that is enough again."""
STRETCH = 5
"""Samples a frame of 960 by which sound may be stretched unheard (0.5 %)."""
STRETCH_QUIET = 96
CUT_FROM, CUT_MOST = RATE * 10 // 1000, RATE * 15 // 1000
"""Excess from which sound is cut, and how much of it at once."""
FADE_FRAMES = 3
"""Missing frames that are continued before silence."""
SEAM = 240
"""Samples (5 ms) over which continued and new sound are blended."""

_RAMP = np.linspace(0.0, 1.0, SEAM, endpoint=False, dtype=np.float32)


@dataclass(slots=True)
class PlayoutCounts:
    """In samples, but for `underruns` (events) and `concealed` (frames). `shrunk` by stretching and cuts."""

    received: int = 0
    lost: int = 0
    stretched: int = 0
    shrunk: int = 0
    overrun: int = 0
    underruns: int = 0
    concealed: int = 0


class PlayoutQueue:
    def __init__(self, patience: Patience = SITE) -> None:
        self.counts = PlayoutCounts()
        self._patience = patience
        self._store = np.zeros(4 * patience.overfull, np.int16)
        self._start = 0
        self._end = 0
        self._target = self._before = LEAST
        self._playing = False
        self._mean = 0.0
        self._need = _Need()
        self._since_cut = 0
        self._past = np.zeros(2 * FRAME, np.int16)
        self._missing = 0

    @property
    def depth(self) -> float:
        return self._held / RATE

    @property
    def waited(self) -> float:
        """Seconds from a packet's arrival to its frame's turn, in the mean: half a frame comes before it."""
        return max(self._mean - FRAME / 2, 0.0) / RATE

    @property
    def target(self) -> float:
        return self._target / RATE

    @property
    def _held(self) -> int:
        return self._end - self._start

    def push(self, samples: Samples) -> None:
        """Takes decoded samples in the order they were sent; any number."""
        self.counts.received += len(samples)
        overfull = self._patience.overfull
        if len(samples) > overfull:
            self.counts.overrun += len(samples) - overfull
            samples = samples[-overfull:]
        if self._end + len(samples) > len(self._store):
            self._store[: self._held] = self._store[self._start : self._end]
            self._start, self._end = 0, self._held
        self._store[self._end : self._end + len(samples)] = samples
        self._end += len(samples)
        if self._held > overfull:
            self._discard(self._held - self._target)

    def push_lost(self, count: int) -> None:
        """Fills a gap of `count` samples known from sequence numbers, so that loss does not eat the depth."""
        count = min(count, FADE_FRAMES * FRAME)
        self.counts.lost += count
        past = self._store[max(self._start, self._end - 2 * FRAME) : self._end]
        if len(past) < 2 * FRAME:
            past = np.concatenate((self._past[len(past) :], past))
        self.push(continue_sound(past, count, 0))

    def pop(self, quiet: bool) -> Samples | None:
        """The next frame, or None when nothing is to be played. `quiet`: the last frame held no speech, so
        this one may be stretched more."""
        held = self._held
        if not self._playing:
            if held < max(self._target, FRAME):
                return None
            self._begin(held)
        self._observe(held)
        if held < FRAME and (self._missing or held < FRAME - STRETCH_QUIET):
            frame = self._conceal()
        else:
            frame = self._cut(held) if self._may_cut(held, quiet) else None
            if frame is None:
                frame = self._take(min(self._correction(quiet), held - FRAME))
        if frame is None:
            return None
        self._past = np.concatenate((self._past[FRAME:], frame))
        return frame

    def _begin(self, held: int) -> None:
        """Sound begins, or comes back; what comes back in a heap did not pause, but was late."""
        if self._missing and held >= self._target + 2 * FRAME:
            self._target = min(self._patience.most, self._target + STEP)
            self._need.was_late()
        self._playing = True
        self._mean = float(held)
        self._missing = 0

    def rest(self) -> None:
        """What is held goes; the next sound that is pushed begins anew. No underrun."""
        if not self._playing and not self._held:
            return
        self._start = self._end = self._missing = 0
        self._playing = False
        self._past = np.zeros(2 * FRAME, np.int16)

    def _observe(self, held: int) -> None:
        self._mean += (held - self._mean) * 0.02
        self._since_cut += 1
        needed = self._need.look(self._mean - held)
        if needed is not None and max(LEAST, needed) < self._target:
            self._target = max(LEAST, int(needed))
            self._need.given_up = True

    def _correction(self, quiet: bool) -> int:
        """Samples to take more (or less) than a frame holds."""
        excess = self._mean - self._target
        if -STEP // 16 < excess < STEP // 4:
            return 0
        most = STRETCH_QUIET if quiet else STRETCH
        return int(np.clip(excess / 20, -most, most))

    def _may_cut(self, held: int, quiet: bool) -> bool:
        """In quiet, stretching is quicker."""
        if quiet or self._missing or self._since_cut < LOOK:
            return False
        return self._mean - self._target >= CUT_FROM and held - FRAME >= CUT_FROM

    def _cut(self, held: int) -> Samples:
        """A frame out of which a stretch was cut, as long as fits best."""
        most = min(CUT_MOST, held - FRAME, int(self._mean - self._target))
        sound = self._store[self._start : self._start + FRAME + most]
        count = _best_cut(sound, most)
        frame = sound[count : count + FRAME].copy()
        blend(sound[:SEAM], frame)
        self._start += FRAME + count
        self._mean -= count
        self._since_cut = 0
        self.counts.shrunk += count
        return frame

    def _take(self, more: int) -> Samples:
        count = FRAME + more
        taken = self._store[self._start : self._start + count]
        if more:
            frame = stretch(taken)
            self.counts.stretched += max(-more, 0)
            self.counts.shrunk += max(more, 0)
            self._mean -= more
        else:
            frame = taken.copy()
        self._start += count
        if self._missing:
            blend(continue_sound(self._past, SEAM, self._missing), frame)
            self._missing = 0
            self._need.was_late()
        return frame

    def _conceal(self) -> Samples | None:
        """A frame when too little is held: what is left, then its continuation."""
        if self._missing == 0:
            self.counts.underruns += 1
            self._before = self._target
            self._target = min(self._patience.most, self._target + STEP)
        if self._missing >= FADE_FRAMES:
            self._playing = False
            self._target = self._before
            self._need.paused()
            return None
        self.counts.concealed += 1
        rest = self._store[self._start : self._end].copy()
        self._start = self._end
        past = np.concatenate((self._past, rest))[-2 * FRAME :]
        frame = np.concatenate((rest, continue_sound(past, FRAME - len(rest), self._missing)))
        self._missing += 1
        return frame

    def _discard(self, count: int) -> None:
        """Drops the oldest `count` samples, blending over the cut."""
        self.counts.overrun += count
        seam = self._store[self._start : self._start + SEAM].copy()
        self._start += count
        blend(seam, self._store[self._start : self._end])
        self._mean = float(self._held)


class _Need:
    """How deep the queue must be, by what it saw: see the module's head."""

    def __init__(self) -> None:
        self.given_up = False
        """Whether slack was given up since the last underrun."""
        self._falls: deque[float] = deque(maxlen=LONGEST_WAIT)
        self._fall = 0.0
        self._ticks = 0
        self._wait = FIRST_WAIT
        self._calm = 0
        """Looks since the last underrun."""

    def look(self, fall: float) -> float | None:
        """`fall`: by how much less than in the mean is held now. The depth, where it is known, every LOOK."""
        self._fall = max(self._fall, fall)
        self._ticks += 1
        if self._ticks < LOOK:
            return None
        self._falls.append(self._fall)
        self._fall, self._ticks = 0.0, 0
        self._calm += 1
        if self._calm % FORGIVEN == 0:
            self._wait = max(FIRST_WAIT, self._wait // 2)
        if self._calm < self._wait:
            return None
        return FRAME + GUARD + max(list(self._falls)[-self._wait :])

    def was_late(self) -> None:
        """There was an underrun, and sound came after it."""
        if self.given_up:
            self._wait = min(2 * self._wait, LONGEST_WAIT)
        self.given_up, self._calm = False, 0

    def paused(self) -> None:
        """How deep it fell just now says nothing."""
        self._fall = 0.0


def stretch(samples: Samples) -> Samples:
    """Any number of samples as one frame, by linear interpolation; the ends stay in place."""
    positions = np.linspace(0, len(samples) - 1, FRAME, dtype=np.float32)
    return np.interp(positions, np.arange(len(samples), dtype=np.float32), samples).astype(np.int16)


def blend(old: Samples, new: Samples) -> None:
    """Fades from `old` into `new` over the first 5 ms of `new`, in place."""
    count = min(SEAM, len(old), len(new))
    ramp = _RAMP[:count]
    new[:count] = (old[:count] * (1 - ramp) + new[:count] * ramp).astype(np.int16)


def _best_cut(sound: Samples, most: int) -> int:
    """Which stretch at the beginning of `sound`, SEAM to `most` samples, leaves the least trace."""
    whole = sound[: most + SEAM].astype(np.float32)
    energy = np.concatenate(([0.0], np.cumsum(whole * whole, dtype=np.float64)))
    energies = energy[2 * SEAM :] - energy[SEAM:-SEAM]
    return SEAM + int(np.argmin(energies - 2 * np.correlate(whole[SEAM:], whole[:SEAM], "valid")))


def continue_sound(past: Samples, count: int, missing: int) -> Samples:
    """`count` samples that go on from `past` (40 ms) by repeating its last pitch period.

    `missing` frames were continued already: the sound fades to nothing over `FADE_FRAMES` (after the manner
    of ITU-T G.711 appendix I).
    """
    period = _pitch_period(past)
    cycle = past[len(past) - period :].astype(np.float32)
    repeated = np.resize(cycle, count)
    age = missing + np.arange(count, dtype=np.float32) / FRAME
    return (repeated * np.clip(1 - age / FADE_FRAMES, 0, 1)).astype(np.int16)


def _pitch_period(past: Samples) -> int:
    """The distance, 2.5 to 15 ms, at which the end of `past` is most like what went before, in samples."""
    thin = past[len(past) % 6 :: 6].astype(np.float32)
    template = thin[-160:]
    shortest, longest = 20, 120
    scores = np.correlate(thin[-160 - longest : -shortest], template, "valid")
    best = longest - int(np.argmax(scores))
    coarse = best * 6
    whole = past.astype(np.float32)
    tail = whole[-480:]
    near = range(max(coarse - 5, shortest * 6), coarse + 6)
    return max(near, key=lambda lag: float(np.dot(tail, whole[-480 - lag : -lag])))
