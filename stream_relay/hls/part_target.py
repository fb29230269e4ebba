"""How long the parts of a stream are to be, so that whole frames fill them (RFC 8216bis 4.4.3.7).

    target = part_target(intervals)                seconds between frames, as they came

No part may be longer than the part target, nor, but for a segment's last, shorter than LEAST_PART of it. At
25 frames a second that is no question; at 5 two frames are 0.4 s, too short for a target of 0.5, and at 1 a
single frame is longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

PART_SECONDS = 0.5
"""The part target wherever frames fit it."""
LEAST_PART = 0.85
LONGEST_PART = 4.0
_CENTRED = 0.93
"""Whole frames at this share of the target may vary by 7 % either way."""
_SLOW = 0.12
"""Frames that take longer than this may need parts longer than PART_SECONDS."""
_PAUSE = 3.0
"""Times the usual frame: no pace, but a pause."""


def part_target(intervals: Sequence[float]) -> float:
    """The target that these frames break least often, the larger one up to PART_SECONDS of equals; beyond it
    only for frames that are slow. Pauses are left out; no target suits fast frames that stutter."""
    if not intervals:
        return PART_SECONDS
    usual = median(intervals)
    steady = [one for one in intervals if one <= _PAUSE * usual]
    longest, shortest = max(steady), min(steady)
    between = (longest + shortest / LEAST_PART) / 2 if shortest >= LEAST_PART * longest else longest
    most = max(int(PART_SECONDS / usual), 1)
    whole = [frames * one for frames in range(most, 0, -1) for one in (usual / _CENTRED, between)]
    targets = [PART_SECONDS, *(_rounded(one) for one in whole if one <= PART_SECONDS)]
    if usual > _SLOW:
        targets += [_rounded(one) for one in sorted(whole) if PART_SECONDS < one <= LONGEST_PART]
    best = min(targets, key=lambda target: _misfits(target, steady))
    stutters = usual <= _SLOW and _misfits(best, intervals) > 0
    return PART_SECONDS if stutters else best


def _misfits(target: float, intervals: Sequence[float]) -> int:
    """Parts of these frames that would be too long or too short."""
    found, length = 0, 0.0
    for interval in intervals:
        if length and length + interval > target + 1e-6:
            found += length < LEAST_PART * target
            length = 0.0
        if interval > target:
            found += 1
        else:
            length += interval
    return found


def _rounded(seconds: float) -> float:
    """To what the playlist says, upwards: no part may be longer than that."""
    return math.ceil(1000 * seconds - 1e-6) / 1000
