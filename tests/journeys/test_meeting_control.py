"""Meeting control over a real bridge: an order is given, and a terminal sees or hears something else.

Real meeting control, rows and media on loopback; orders are timed to the first decoded picture that shows.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import ConferenceDesk
from foundation.event_bus import InProcessBus
from foundation.site_tree import SiteTree
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge, BridgeSettings
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.picture_plan import Canvas
from mcu_bridge.video_composer import CARD
from media.rtp_socket import PortRange
from signaling.admission import Admission
from signaling.control.orders import Command, Order
from signaling.control.state import Lobby, Mark
from signaling.media_workers import MediaWorkers
from signaling.meeting import Access, Caller, Meeting
from signaling.meeting_rows import MeetingRows
from signaling.meetings import Meetings
from tests.mcu_bridge.conftest import access, block, certificate
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, RED, YELLOW, RtpPeer, Tile, Yuv
from tests.peers.ports import PortBlock
from tests.signaling.conftest import clock, database, passwords, patience, sqlite_template
from tests.signaling.recording_desk import RecordingLine

__all__ = ["access", "block", "certificate", "clock", "database", "passwords", "patience", "sqlite_template"]

FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
SOON = 1.0
"""Seconds in which an order shows; half of them must, all of them on a machine that does nothing else."""
BUSY = 5.0


def in_time(took: Mapping[str, float]) -> bool:
    """Whether half of the orders showed within a second."""
    return sorted(took.values())[len(took) // 2] < SOON


@dataclass
class Hall:
    """A meeting with three rooms: red has 440 Hz, green 1000, blue 1700."""

    meetings: Meetings
    meeting: Meeting
    ports: PortRange
    peers: dict[str, RtpPeer] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)

    async def join(self, name: str, peer: RtpPeer, site: str | None = "site") -> None:
        caller = Caller(name, site, "lan", f"sip:{name}@192.0.2.1")
        member, answer = await self.meetings.join(
            self.meeting.conference_id, caller, peer.offer(), Access.DIALLED_IN, RecordingLine()
        )
        peer.answered(answer)
        self.peers[name], self.ids[name] = peer, member.participant_id

    async def give(self, command: Command, whom: str | None = None, **values: Any) -> None:
        order = Order(command, "operator", self.ids[whom] if whom else None, **values)
        await self.meetings.control.give(self.meeting.conference_id, order)

    async def shows(
        self, what: str, command: Command, whom: str | None, *seen: tuple[str, Yuv], **values: Any
    ) -> None:
        """Give an order; soon these rooms see these colours on the whole picture."""
        began = time.monotonic()
        await self.give(command, whom, **values)
        for name, colour in seen:
            await self.peers[name].sees(colour, timeout=BUSY)
        self.took[what] = time.monotonic() - began

    async def sounds(
        self, command: Command, whom: str | None, *heard: tuple[str, float, bool], **values: Any
    ) -> None:
        """Give an order; soon these rooms hear these tones, or no longer."""
        await self.give(command, whom, **values)
        for name, hertz, present in heard:
            await self.peers[name].hears(hertz, present=present, timeout=BUSY)


@pytest.fixture
async def hall(
    access: MediaAccess, block: PortBlock, database: Database, clock: FakeClock
) -> AsyncIterator[Hall]:
    first = block.take(40, even=True)
    async with AsyncExitStack() as stack:
        painter = CaptionPainter(FONT) if FONT.exists() else None
        settings = BridgeSettings(2, 100.0, Canvas(640, 360), painter)
        bridge = await stack.enter_async_context(Bridge(settings, access, lambda _event: None))
        desks = cast(Mapping[str, ConferenceDesk], {"media-0": bridge})
        meetings = Meetings(
            rows=MeetingRows(database, clock),
            bus=InProcessBus(),
            workers=MediaWorkers(desks),
            admission=Admission(SiteTree({"nation": None}), (), {}, 10_000_000),
            site_budget=lambda _site: 1_200_000,
        )
        await meetings.worker_ready("media-0", 1)
        meeting = await meetings.open("演练", "nation", number="8001")
        hall = Hall(meetings, meeting, PortRange(first, first + 39))
        for name, colour, hertz in (("red", RED, 440.0), ("green", GREEN, 1000.0), ("blue", BLUE, 1700.0)):
            peer = await stack.enter_async_context(RtpPeer(colour, hertz, hall.ports))
            await hall.join(name, peer, None)
        await hall.peers["blue"].sees(RED, Tile(0, 0, 2, 2))
        yield hall
        await meetings.aclose()


async def test_broadcast_choice_lecture_and_camera(hall: Hall, record_property: Any) -> None:
    await hall.give(Command.GRANT_CHAIR, "blue")
    await hall.shows("full screen", Command.FULL_SCREEN, "red", ("green", RED), ("blue", RED))
    await hall.shows("select view", Command.SELECT_VIEW, "red", ("red", BLUE), target_id=hall.ids["blue"])
    await hall.shows("broadcast", Command.BROADCAST, "green", ("red", GREEN))
    assert hall.peers["blue"].shows(RED), "the chair goes on to see what it saw"
    await hall.shows(
        "the chair's view", Command.SELECT_VIEW, "blue", ("blue", GREEN), target_id=hall.ids["green"]
    )
    await hall.shows("stop", Command.STOP, None, ("red", BLUE), ("green", RED))
    await hall.shows("lecture", Command.LECTURE, "green", ("red", GREEN))
    await hall.shows("camera off", Command.CAMERA_OFF, "green", ("red", CARD))
    await hall.shows("camera on", Command.CAMERA_ON, "green", ("red", GREEN))
    record_property("seconds", {what: round(seconds, 3) for what, seconds in hall.took.items()})
    assert in_time(hall.took), hall.took


async def test_a_roll_call_is_seen_and_heard(hall: Hall) -> None:
    await hall.give(Command.GRANT_CHAIR, "blue")
    await hall.sounds(Command.ROLL_CALL, None, ("green", 440.0, False), ("green", 1700.0, True))
    await hall.shows("call", Command.ROLL_CALL_NEXT, None, ("green", RED))
    await hall.peers["green"].hears(440.0)
    await hall.give(Command.ROLL_CALL_MARK, "red", mark=Mark.PRESENT)
    await hall.shows("next", Command.ROLL_CALL_NEXT, None, ("red", GREEN))
    await hall.peers["blue"].hears(1000.0)
    await hall.peers["blue"].hears(440.0, present=False)
    await hall.sounds(Command.STOP, None, ("green", 440.0, True))
    (record,) = await hall.meetings.roll_calls(hall.meeting.conference_id)
    assert {site.name: site.mark for site in record.sites} == {"red": "present", "green": "called"}


async def test_floor_mute_and_deafness_are_heard(hall: Hall) -> None:
    await hall.peers["blue"].hears(1000.0)
    await hall.sounds(Command.GRANT_FLOOR, "red", ("blue", 1000.0, False), ("blue", 440.0, True))
    await hall.sounds(Command.UNMUTE_ALL, None, ("blue", 1000.0, True))
    await hall.sounds(Command.MUTE_ALL, None, ("blue", 1000.0, False), ("blue", 440.0, False))
    await hall.sounds(Command.UNMUTE, "green", ("blue", 1000.0, True))
    await hall.sounds(Command.DEAFEN, "blue", ("blue", 1000.0, False))
    await hall.peers["red"].hears(1000.0)
    await hall.sounds(Command.UNDEAFEN, "blue", ("blue", 1000.0, True))


async def test_the_lobby_is_seen_and_heard(hall: Hall) -> None:
    await hall.give(Command.LOBBY, lobby=Lobby.GUESTS)
    async with RtpPeer(YELLOW, 600.0, hall.ports) as guest:
        await hall.join("guest", guest, None)
        await guest.sees(CARD)
        await guest.hears(440.0, present=False)
        await hall.peers["red"].hears(600.0, present=False)
        assert not any(hall.peers["red"].shows(YELLOW, Tile(x, y, 2, 2)) for x in (0, 1) for y in (0, 1))
        await hall.sounds(Command.ADMIT, "guest", ("red", 600.0, True), ("guest", 440.0, True))
        await hall.peers["red"].sees(YELLOW, Tile(1, 1, 2, 2))


async def test_polling_turns_from_site_to_site(hall: Hall) -> None:
    await hall.give(Command.POLL, order=(hall.ids["red"], hall.ids["blue"]), interval=3.0)
    await hall.peers["green"].sees(RED, timeout=BUSY)
    began = time.monotonic()
    green = hall.peers["green"]
    while not green.shows(BLUE):
        assert time.monotonic() - began < 3.0 + BUSY
        await green.more_pictures(1)
    assert time.monotonic() - began > 1.5
    await hall.shows("poll next", Command.POLL_NEXT, None, ("green", RED))
