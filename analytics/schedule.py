"""When a rule holds: windows of the week on the clock of the wall.

    schedule = Schedule.of([{"days": [0, 1, 2, 3, 4], "from": "22:00", "to": "06:00"}], "Asia/Shanghai")
    schedule.holds(datetime.now(UTC))

Day 0 is Monday. A window whose end is not after its start goes over midnight and belongs to the day it starts
on; from 08:00 to 08:00 is a whole day. What counts is what the clock on the wall says: the hour that a clock
change repeats counts twice, the one it skips not at all. No windows at all mean always.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

MOST_WINDOWS = 32
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_MIDNIGHT = "24:00"
_DAY = 24 * 60


class ScheduleFault(ValueError):
    """These windows make no schedule; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Window:
    """On `days` (0 is Monday) from minute `start` of the day up to minute `end`, excluded; an end of more
    than 24 * 60 lies on the next day."""

    days: frozenset[int]
    start: int
    end: int

    def holds(self, weekday: int, minute: float) -> bool:
        if weekday in self.days and self.start <= minute < self.end:
            return True
        return (weekday - 1) % 7 in self.days and minute + _DAY < self.end


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows in a time zone."""

    windows: tuple[Window, ...]
    zone: ZoneInfo

    @classmethod
    def of(cls, windows: Sequence[Mapping[str, Any]], time_zone: str) -> Schedule:
        """From windows as rows and requests have them. Raises ScheduleFault."""
        if len(windows) > MOST_WINDOWS:
            raise ScheduleFault(f"a schedule has at most {MOST_WINDOWS} windows, not {len(windows)}")
        return cls(
            tuple(_window(number, window) for number, window in enumerate(windows, 1)), ZoneInfo(time_zone)
        )

    def holds(self, at: datetime) -> bool:
        """Whether the aware time `at` is in one of the windows, or there are none."""
        if not self.windows:
            return True
        local = at.astimezone(self.zone)
        minute = local.hour * 60 + local.minute + local.second / 60
        return any(window.holds(local.weekday(), minute) for window in self.windows)


def _window(number: int, window: Mapping[str, Any]) -> Window:
    where = f"window {number}"
    if set(window) != {"days", "from", "to"}:
        raise ScheduleFault(f"{where}: it has exactly days, from and to")
    days = window["days"]
    if not isinstance(days, list | tuple) or not days:
        raise ScheduleFault(f"{where}: days is a list of at least one day")
    if any(type(day) is not int or not 0 <= day <= 6 for day in days):
        raise ScheduleFault(f"{where}: days are numbers from 0 (Monday) to 6")
    start = _minute(where, "from", window["from"])
    end = _DAY if window["to"] == _MIDNIGHT else _minute(where, "to", window["to"])
    return Window(frozenset(days), start, end if end > start else end + _DAY)


def _minute(where: str, name: str, text: object) -> int:
    match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ScheduleFault(f"{where}: {name} is a time like 08:30, not {text!r}")
    return int(match[1]) * 60 + int(match[2])
