"""Windows of the week: over midnight, over clock changes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.schedule import Schedule, ScheduleFault

SHANGHAI, BERLIN = "Asia/Shanghai", "Europe/Berlin"
NIGHTS = [{"days": [0, 1, 2, 3, 4], "from": "22:00", "to": "06:00"}]


def wall(zone: str, text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        ("2026-05-04T21:59:59", False),  # a Monday
        ("2026-05-04T22:00", True),
        ("2026-05-05T05:59:59", True),
        ("2026-05-05T06:00", False),
        ("2026-05-09T03:00", True),  # Saturday, of Friday's window
        ("2026-05-09T23:00", False),
        ("2026-05-04T03:00", False),  # Monday: Sunday has none
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_it_starts(at: str, holds: bool) -> None:
    assert Schedule.of(NIGHTS, SHANGHAI).holds(wall(SHANGHAI, at)) is holds


def test_times_are_those_of_the_zone() -> None:
    office = Schedule.of([{"days": [0], "from": "08:00", "to": "18:00"}], SHANGHAI)
    assert office.holds(datetime(2026, 5, 4, 0, 0, tzinfo=UTC))
    assert not office.holds(datetime(2026, 5, 4, 10, 0, tzinfo=UTC))


def test_no_windows_are_always_and_midnight_is_an_end() -> None:
    assert Schedule.of([], SHANGHAI).holds(datetime(2026, 1, 1, tzinfo=UTC))
    evening = Schedule.of([{"days": [6], "from": "18:00", "to": "24:00"}], SHANGHAI)
    assert evening.holds(wall(SHANGHAI, "2026-05-10T23:59:59"))
    assert not evening.holds(wall(SHANGHAI, "2026-05-11T00:00"))
    whole = Schedule.of([{"days": [6], "from": "08:00", "to": "08:00"}], SHANGHAI)
    assert whole.holds(wall(SHANGHAI, "2026-05-11T07:59"))
    assert not whole.holds(wall(SHANGHAI, "2026-05-11T08:00"))


def test_a_clock_change_repeats_an_hour_or_skips_it() -> None:
    early = Schedule.of([{"days": [6], "from": "02:00", "to": "03:00"}], BERLIN)
    back = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 in summer, 01:00 UTC is 02:00 again
    held = [early.holds(back + timedelta(minutes=15 * step)) for step in range(12)]
    assert held == [True] * 8 + [False] * 4
    forward = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)  # 01:00; at 01:00 UTC it is 03:00
    assert not any(early.holds(forward + timedelta(minutes=5 * step)) for step in range(30))
    night = Schedule.of([{"days": [5], "from": "22:00", "to": "06:00"}], BERLIN)
    assert night.holds(wall(BERLIN, "2026-10-25T02:30", fold=1))
    assert night.holds(wall(BERLIN, "2026-10-25T05:59"))
    assert not night.holds(wall(BERLIN, "2026-10-25T06:00"))


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"days": [7], "from": "08:00", "to": "09:00"}, "window 1: days are numbers"),
        ({"days": [True], "from": "08:00", "to": "09:00"}, "days are numbers"),
        ({"days": [], "from": "08:00", "to": "09:00"}, "at least one day"),
        ({"days": [1], "from": "24:00", "to": "09:00"}, "from is a time like 08:30, not '24:00'"),
        ({"days": [1], "from": "08:00", "to": "9:00"}, "to is a time"),
        ({"days": [1], "from": "08:00", "to": 9}, "to is a time"),
        ({"days": [1], "from": "08:00"}, "exactly days, from and to"),
    ],
)
def test_windows_that_cannot_be(window: dict[str, Any], words: str) -> None:
    with pytest.raises(ScheduleFault, match=words):
        Schedule.of([window], SHANGHAI)


@given(
    start=st.integers(0, 1439),
    end=st.integers(0, 1439),
    days=st.sets(st.integers(0, 6), min_size=1),
    minute=st.integers(0, 7 * 1440 - 1),
)
def test_a_window_holds_for_its_minutes_and_no_others(
    start: int, end: int, days: set[int], minute: int
) -> None:
    text = [f"{value // 60:02}:{value % 60:02}" for value in (start, end)]
    schedule = Schedule.of([{"days": sorted(days), "from": text[0], "to": text[1]}], "UTC")
    length = (end - start) % 1440 or 1440
    monday = datetime(2026, 5, 4, tzinfo=UTC)
    inside = any((minute - (day * 1440 + start)) % (7 * 1440) < length for day in days)
    assert schedule.holds(monday + timedelta(minutes=minute)) is inside
