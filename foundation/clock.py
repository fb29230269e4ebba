"""The two clocks a process may ask: one that never jumps, one that people read.

    clock = SystemClock()
    clock.monotonic() -> float      seconds, origin unknown, for intervals and time-outs
    clock.now() -> datetime         aware, UTC, for rows and for people

`FakeClock` is moved by hand, so that tests of expiry and back-off need no waiting.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Protocol

__all__ = ["Clock", "FakeClock", "SystemClock", "boot_id"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What code asks for the time; handed in, never imported."""

    def monotonic(self) -> float:
        """Seconds that only go forward; the origin means nothing."""
        ...

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...


@cache
def boot_id() -> str:
    """Names this run of the machine: monotonic seconds of its processes are of one clock, those of another
    run are not. Empty where the system does not say (it is no Linux)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


class FakeClock:
    """A clock that stands still until a test moves it; both readings move together."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("a FakeClock starts at an aware datetime")
        self._start = start.astimezone(UTC)
        self._elapsed = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self._elapsed

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds` (never back)."""
        if seconds < 0:
            raise ValueError("a clock is never moved back")
        self._elapsed += seconds
