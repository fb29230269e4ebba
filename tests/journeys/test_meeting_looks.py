"""Layouts, and the controls that `test_meeting_control` leaves out, as a terminal sees and hears them.

Which test decodes which control (C is `test_meeting_control`):

| control | test |
|---|---|
| scheduling, auto-dial | `test_scheduled` |
| lobby, PIN | C test_the_lobby_is_seen_and_heard, `test_browser` (guest with the PIN), `test_callers` |
| chair, request to speak | test_a_hand_is_raised_and_given_the_floor_by_the_chair, C |
| roll call | C test_a_roll_call_is_seen_and_heard |
| broadcast, selected view, camera off | C test_broadcast_choice_lecture_and_camera |
| polling, lecture | C test_polling_..., test_the_lecturer_sees_the_sites_in_turn_... |
| mute, deafen, mute all | C test_floor_mute_and_deafness_are_heard |
| slides, taken back | `test_slides` |
| banner, captions | test_a_banner_stands_and_a_long_caption_runs |
| lock, drop, end | test_locked_dropped_and_ended, `test_rooms` |
| layouts, who speaks leads | test_each_layout_is_seen, test_who_speaks_leads |
| self excluded, gain, announcement | test_one_does_not_see_itself, test_gain_..., test_announcements_... |
"""

from __future__ import annotations

import time
import wave
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.desks import Refusal, RefusalKind
from mcu_bridge.announcements import AnnouncementShelf
from mcu_bridge.banner import STRIP
from mcu_bridge.bridge import Bridge
from mcu_bridge.layouts import LAYOUTS, Layout, Rect
from mcu_bridge.video_composer import CARD
from media.picture import BLACK, Picture
from signaling.control.orders import Command, NotAllowed, Order
from tests.journeys.test_meeting_control import (
    BUSY,
    FONT,
    Hall,
    access,
    block,
    certificate,
    clock,
    database,
    hall,
    in_time,
    passwords,
    patience,
    sqlite_template,
)
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, NEAR, RED, YELLOW, RtpPeer, Tile, Yuv
from tests.peers.waiting import until_true

__all__ = [
    "access", "block", "certificate", "clock", "database", "hall", "passwords", "patience", "sqlite_template",
]  # fmt: skip

ROOMS = {"red": RED, "green": GREEN, "blue": BLUE}
SHOWN = ("full", "1+1", "2x2", "1+5", "3x3", "4x4", "pip", "speaker+strip")
"""The layouts that the requirements name; slides beside a speaker are in `test_slides`."""
LEFT, RIGHT = Tile(0, 0, 2, 1), Tile(1, 0, 2, 1)


def near(one: Yuv, other: Yuv) -> bool:
    return all(abs(a - b) <= NEAR for a, b in zip(one, other, strict=True))


def middle(picture: Picture, rect: Rect) -> Yuv:
    """The mean colour around the middle of a cell, above the noise and the name at its foot."""
    means = []
    for plane, half in zip(picture.planes, (1, 2, 2), strict=True):
        top, left = rect.y + rect.height * 3 // 10, rect.x + rect.width * 3 // 10
        part = plane[
            top // half : (top + rect.height * 3 // 10) // half,
            left // half : (left + rect.width * 4 // 10) // half,
        ]
        means.append(round(float(part.mean())))
    return means[0], means[1], means[2]


def cells(peer: RtpPeer, layout: Layout) -> list[str]:
    """What is in each cell: a room's name, "black", or the colour that is neither."""
    picture = peer.latest
    if picture is None:
        return []
    known = {**ROOMS, "black": BLACK}
    seen = []
    for rect in layout.rects(picture.width, picture.height):
        colour = middle(picture, rect)
        seen.append(next((name for name, one in known.items() if near(colour, one)), str(colour)))
    return seen


def is_layout(seen: list[str], layout: Layout) -> bool:
    """Each room once, as far as there are cells, from the first cell on; the rest is black."""
    filled = min(len(layout.cells), len(ROOMS))
    rooms = seen[:filled]
    return len(set(rooms)) == filled and set(rooms) <= ROOMS.keys() and set(seen[filled:]) <= {"black"}


async def test_each_layout_is_seen(hall: Hall, record_property: Any) -> None:
    took: dict[str, float] = {}
    for name in SHOWN:
        layout = LAYOUTS[name]
        began = time.monotonic()
        await hall.give(Command.MOSAIC, layout=name)
        for room in ("red", "green"):
            peer = hall.peers[room]
            await until_true(
                lambda peer=peer, layout=layout: is_layout(cells(peer, layout), layout),  # type: ignore[misc]  # defaults are bound
                f"layout {name} at {room}",
                BUSY,
                lambda peer=peer, layout=layout: str(cells(peer, layout)),  # type: ignore[misc]  # defaults are bound
            )
        took[name] = time.monotonic() - began
    record_property("seconds", {name: round(seconds, 3) for name, seconds in took.items()})
    assert in_time(took), took


async def test_who_speaks_leads(hall: Hall) -> None:
    """Two are silenced: the third is large, with the others beside it."""
    layout = LAYOUTS["1+5"]
    red = hall.peers["red"]
    for whom, others in (("blue", ("red", "green")), ("green", ("red", "blue"))):
        await hall.give(Command.UNMUTE, whom)
        for other in others:
            await hall.give(Command.MUTE, other)
        await hall.give(Command.MOSAIC, layout="1+5")
        await until_true(
            lambda whom=whom: cells(red, layout)[0] == whom,  # type: ignore[misc]  # defaults are bound
            f"{whom} to lead",
            BUSY + 3,
            lambda: str(cells(red, layout)),
        )
        await red.hears(1700.0 if whom == "blue" else 1000.0)
        await red.hears(1000.0 if whom == "blue" else 1700.0, present=False)


async def test_one_does_not_see_itself(hall: Hall) -> None:
    green, red = hall.peers["green"], hall.peers["red"]
    await hall.give(Command.HIDE_SELF, "green")
    await green.sees(RED, LEFT, timeout=BUSY)
    await green.sees(BLUE, RIGHT, timeout=BUSY)
    assert red.shows(GREEN, Tile(1, 0, 2, 2)), "the others go on to see it"
    await hall.give(Command.SHOW_SELF, "green")
    await green.sees(GREEN, Tile(1, 0, 2, 2), timeout=BUSY)


async def test_gain_is_heard(hall: Hall) -> None:
    green = hall.peers["green"]
    await hall.give(Command.MUTE, "blue")
    await green.hears(1700.0, present=False)
    await green.hears(440.0)

    def loudness() -> float:
        return float(np.sqrt(np.mean(green.sound.samples[-9600:] ** 2)))

    before = loudness()
    await hall.give(Command.GAIN, "red", decibels=-20.0)
    await until_true(lambda: loudness() < before / 5, "red to be quieter", BUSY, lambda: str(loudness()))
    await hall.give(Command.GAIN, "red", decibels=0.0)
    await until_true(lambda: loudness() > before / 2, "red to be as loud as before", BUSY)


async def test_announcements_are_heard_by_one_or_by_all(hall: Hall, tmp_path: Path) -> None:
    """A file of 16 kHz that an operator plays, and the chime."""
    with wave.open(str(tmp_path / "演习.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        times = np.arange(16_000 * 20) / 16_000
        file.writeframes(np.round(np.sin(2 * np.pi * 2500 * times) * 8000).astype("<i2").tobytes())
    desk = hall.meetings.desk(hall.meeting.conference_id)
    assert isinstance(desk, Bridge)
    desk._settings = replace(desk._settings, announcements=AnnouncementShelf(tmp_path))
    assert await desk.announcements() == ("chime", "演习")
    red, green, conference = hall.peers["red"], hall.peers["green"], hall.meeting.conference_id
    await desk.announce(conference, "演习", hall.ids["red"])
    await red.hears(2500.0)
    await red.hears(1000.0)
    await green.hears(2500.0, present=False)
    await desk.announce(conference, "演习", None)
    await green.hears(2500.0)
    await desk.stop_announcing(conference)
    for peer in (red, green):
        await peer.hears(2500.0, present=False)
        await peer.hears(1700.0)
    await hall.give(Command.MUTE_ALL)
    await green.hears(1700.0, present=False)
    await desk.announce(conference, "chime", None)
    await green.hears(880.0)
    with pytest.raises(Refusal, match="no announcement") as refused:
        await desk.announce(conference, "nothing", None)
    assert refused.value.kind is RefusalKind.UNKNOWN_ANNOUNCEMENT


@pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")
async def test_a_banner_stands_and_a_long_caption_runs(hall: Hall) -> None:
    green = hall.peers["green"]

    def strip() -> np.ndarray:
        picture = green.latest
        assert picture is not None
        return np.asarray(picture.y[: picture.height // 20], np.int16)

    def run_between(one: np.ndarray, other: np.ndarray) -> int:
        """Columns by which the letters moved to the left: where the two fit best, whatever coding blurred."""
        furthest = one.shape[1] // 10
        middle = one[:, furthest:-furthest]
        width = middle.shape[1]
        fits = {
            run: np.abs(other[:, furthest - run : furthest - run + width] - middle).mean()
            for run in range(-furthest, furthest + 1)
        }
        return min(fits, key=lambda run: fits[run])

    def bannered() -> bool:
        picture = green.latest
        if picture is None:
            return False
        corner = [float(p[: p.shape[0] // 24, : p.shape[1] // 30].mean()) for p in picture.planes]
        return all(abs(a - b) <= 18 for a, b in zip(corner, STRIP, strict=True))

    assert not bannered()
    await hall.give(Command.BANNER, text="会议纪律：请将手机调至静音")
    await until_true(bannered, "the banner", BUSY)
    await green.more_pictures(12)  # its first one is coarse
    stood = [strip()]
    for _ in range(4):
        await green.more_pictures(3)
        stood.append(strip())
    assert [run_between(a, b) for a, b in pairwise(stood)] == [0] * 4, "what fits stands still"
    await hall.give(Command.BANNER, text="各会场请注意：" * 20)
    looks: list[np.ndarray] = []

    async def runs() -> bool:
        await green.more_pictures(3)
        looks.append(strip())
        moved = [float(np.abs(a - b).mean()) for a, b in pairwise(looks)]
        return len(moved) > 4 and all(difference > 4 for difference in moved[-4:])

    await until_true(runs, "the caption to run", 2 * BUSY)
    await hall.give(Command.BANNER, text="")
    await until_true(lambda: not bannered() and strip().std() > 1, "no banner", BUSY)


async def test_a_hand_is_raised_and_given_the_floor_by_the_chair(hall: Hall) -> None:
    """What sites ask and what the chair orders is done; a chair that is revoked orders no more."""
    control, conference = hall.meetings.control, hall.meeting.conference_id

    async def of_site(command: Command, site: str, whom: str | None = None) -> None:
        target = hall.ids[whom] if whom else None
        await control.give(conference, Order(command, site, target, site=hall.ids[site]))

    await hall.give(Command.MUTE_ALL)
    await hall.peers["green"].hears(440.0, present=False)
    await of_site(Command.REQUEST_CHAIR, "blue", "blue")
    await hall.give(Command.GRANT_CHAIR, "blue")
    await of_site(Command.REQUEST_FLOOR, "red", "red")
    with pytest.raises(NotAllowed):
        await of_site(Command.GRANT_FLOOR, "red", "red")
    await of_site(Command.GRANT_FLOOR, "blue", "red")
    await hall.peers["green"].hears(440.0)
    await hall.peers["red"].hears(1000.0, present=False)
    await of_site(Command.BROADCAST, "blue", "green")
    await hall.peers["red"].sees(GREEN, timeout=BUSY)
    await hall.give(Command.REVOKE_CHAIR)
    with pytest.raises(NotAllowed):
        await of_site(Command.STOP, "blue")
    assert hall.peers["red"].shows(GREEN)


async def test_the_lecturer_sees_the_sites_in_turn_and_the_absent_are_passed_over(hall: Hall) -> None:
    await hall.give(Command.LECTURE, "green")
    await hall.peers["red"].sees(GREEN, timeout=BUSY)
    green = hall.peers["green"]
    await green.sees(RED, Tile(0, 0, 2, 2), timeout=BUSY)
    assert hall.peers["blue"].shows(GREEN)
    await hall.give(Command.STOP)
    async with RtpPeer(YELLOW, 600.0, hall.ports) as fourth:
        await hall.join("yellow", fourth, None)
        await green.sees(YELLOW, Tile(1, 1, 2, 2), timeout=BUSY)
        order = tuple(hall.ids[name] for name in ("yellow", "red", "blue"))
        await hall.give(Command.POLL, order=order, interval=60.0)
        await green.sees(YELLOW, timeout=BUSY)
        await hall.give(Command.DROP, "yellow")
        await green.sees(RED, timeout=BUSY)
    seen = []
    for colour in (BLUE, RED):
        await hall.give(Command.POLL_NEXT)
        await green.sees(colour, timeout=BUSY)
        seen.append(green.colour())
    assert len(seen) == 2


async def test_locked_dropped_and_ended(hall: Hall) -> None:
    red, green, blue = (hall.peers[name] for name in ROOMS)
    await hall.give(Command.LOCK)
    async with RtpPeer(YELLOW, 600.0, hall.ports) as late:
        with pytest.raises(Refusal) as refused:
            await hall.join("late", late, None)
        assert refused.value.kind is RefusalKind.LOCKED
    await hall.give(Command.CAMERA_OFF, "red")
    await green.sees(CARD, Tile(0, 0, 2, 2), timeout=BUSY)
    await hall.give(Command.DROP, "blue")
    await green.hears(1700.0, present=False)
    await green.sees(GREEN, RIGHT, timeout=BUSY)
    await hall.give(Command.CAMERA_ON, "red")
    await green.sees(RED, LEFT, timeout=BUSY)
    last = blue.pictures
    await green.more_pictures(10)
    assert blue.pictures == last, "who is dropped is sent nothing"
    await hall.give(Command.END)
    seen = red.pictures, green.pictures
    with pytest.raises(AssertionError, match="more pictures"):
        await green.more_pictures(3, timeout=0.5)
    assert red.pictures <= seen[0] + 2
