"""Sound waits for pictures that are late, by as much as is known, and never runs away."""

from __future__ import annotations

import pytest

from mcu_bridge.lip_sync import MOST, LipSync
from media.packet import Packet


def play(
    sync: LipSync, seconds: float, pictures_late: float, *, clocks: bool = True, apart: float = 0.0
) -> None:
    """Sound that comes at once, and pictures that come late."""
    for tick in range(round(seconds * 50)):
        at = 100.0 + tick * 0.02
        if tick % 2 == 0:
            ntp = 4e9 + at - pictures_late + apart if clocks else None
            sync.picture_came(Packet(b"p", tick * 1800, at, ntp=ntp))
        sync.sound_came(Packet(b"s", tick * 160, at, ntp=4e9 + at if clocks else None))


@pytest.mark.parametrize("late", [0.0, 0.15, 0.6])
def test_sound_waits_by_what_the_senders_clock_says(late: float) -> None:
    sync = LipSync()
    play(sync, 2.0, late)
    assert sync.delay == pytest.approx(late, abs=0.001)


def test_sound_that_is_late_itself_does_not_wait() -> None:
    sync = LipSync()
    play(sync, 2.0, -0.3)
    assert sync.delay == 0.0


def test_a_picture_that_comes_in_time_again_is_followed() -> None:
    sync = LipSync()
    play(sync, 2.0, 0.5)
    play(sync, 3.0, 0.0)
    assert sync.delay == 0.0


def test_no_more_than_a_second_and_nothing_for_clocks_that_are_not_one() -> None:
    sync = LipSync()
    play(sync, 2.0, 1.8)
    assert sync.delay == MOST
    play(sync, 3.0, 0.0, apart=-500.0)
    assert sync.delay == 0.0


def test_without_clocks_b_frames_say_how_late_they_are() -> None:
    sync = LipSync()
    play(sync, 1.0, 0.0, clocks=False)
    assert sync.delay == 0.0
    shown = 0
    for tick in range(60):
        for step in (3, 1, 2):
            sync.picture_came(Packet(b"p", (shown + step) * 3600, tick * 0.12))
        shown += 3
        sync.sound_came(Packet(b"s", tick * 960, tick * 0.12))
    assert sync.delay == pytest.approx(0.08)


def test_small_changes_leave_the_sound_alone() -> None:
    sync = LipSync()
    play(sync, 2.0, 0.30)
    play(sync, 2.0, 0.32)
    assert sync.delay == pytest.approx(0.30, abs=0.001)
