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
_LARGER = (0.75, 1.0, 1.5, 2.0, 3.0, LONGEST_PART)


def part_target(intervals: Sequence[float]) -> float:
    """The largest target up to PART_SECONDS that these frames keep to, else the smallest above it."""
    if not intervals:
        return PART_SECONDS
    usual, longest, shortest = median(intervals), max(intervals), min(intervals)
    between = (longest + shortest / LEAST_PART) / 2 if shortest >= LEAST_PART * longest else longest
    most = max(int(PART_SECONDS / usual), 1) if usual > 0 else 1
    whole = [frames * one for frames in range(most, 0, -1) for one in (usual / _CENTRED, between)]
    small = [_rounded(one) for one in whole if one <= PART_SECONDS]
    large = [_rounded(one) for one in (*whole, 2 * between, *_LARGER) if PART_SECONDS < one <= LONGEST_PART]
    for target in (PART_SECONDS, *small, *sorted(large)):
        if _fits(target, intervals):
            return target
    return min(max(_rounded(longest), PART_SECONDS), LONGEST_PART)


def _fits(target: float, intervals: Sequence[float]) -> bool:
    length = 0.0
    for interval in intervals:
        if interval > target:
            return False
        if length + interval > target + 1e-6:
            if length < LEAST_PART * target:
                return False
            length = 0.0
        length += interval
    return True


def _rounded(seconds: float) -> float:
    """To what the playlist says, upwards: no part may be longer than that."""
    return math.ceil(1000 * seconds - 1e-6) / 1000
