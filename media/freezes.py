"""How often and how long a picture stood still. Pure.

    meter = FreezeMeter()
    meter.picture(now)           one that can be shown came, or went
    meter.end(now)               it stops on purpose, or for good: what follows is no freeze
    meter.restart()              another picture begins
    meter.freezes(now) -> Freezes(count, seconds)

A freeze is more than three times the usual interval without a new picture, and more than 150 ms; it lasts
from picture to picture. The usual interval is the mean of the last 30, each taken for a second at most, so
that another frame rate is learnt within a few pictures. W3C's webrtc-stats (freezeCount,
totalFreezesDuration) counts alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

LEAST = 0.150
TIMES = 3
REMEMBERED = 30
ENOUGH = 5
"""Intervals that must be known before one can be unusual."""
_LONGEST = 1.0


@dataclass(frozen=True, slots=True)
class Freezes:
    count: int = 0
    seconds: float = 0.0


class FreezeMeter:
    """Times are monotonic seconds."""

    def __init__(self) -> None:
        self._count = 0
        self._seconds = 0.0
        self._last: float | None = None
        self._intervals: deque[float] = deque(maxlen=REMEMBERED)
        self._limit = float("inf")

    def picture(self, now: float) -> None:
        if self._last is not None:
            interval = max(now - self._last, 0.0)
            self._add(interval)
            self._intervals.append(min(interval, _LONGEST))
            if len(self._intervals) >= ENOUGH:
                self._limit = max(LEAST, TIMES * sum(self._intervals) / len(self._intervals))
        self._last = now

    def end(self, now: float) -> None:
        if self._last is not None:
            self._add(now - self._last)
        self._last = None

    def restart(self) -> None:
        """Its rate may be another one too."""
        self._last = None
        self._intervals.clear()
        self._limit = float("inf")

    def freezes(self, now: float, *, running: bool = True) -> Freezes:
        """Until now; what goes on counts only where it is `running`."""
        lasts = now - self._last if running and self._last is not None else 0.0
        goes_on = lasts > self._limit
        return Freezes(self._count + goes_on, self._seconds + (lasts if goes_on else 0.0))

    def _add(self, interval: float) -> None:
        if interval > self._limit:
            self._count += 1
            self._seconds += interval
