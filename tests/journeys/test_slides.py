"""Slides: taken by BFCP over UDP and TCP, seen on second streams and in main pictures, taken back, and more.

Three room terminals of our own stack have two pictures, baresip has one. What counts is what is decoded.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.demo.terminal.floor import FloorRefused
from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from tests.journeys.scene import WUMING
from tests.journeys.test_main_killed import main_of
from tests.peers.baresip import Baresip
from tests.peers.node import ADDRESSES, MeetingHandle, Node
from tests.peers.picture import BLUE, GREEN, MAGENTA, Colour, Region, mean_colour, near
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]

UDP = TerminalSettings(
    "udp-room", bind=ADDRESSES["nanning"], colour="red", tone_hz=440, slides="blue", floor="UDP", fps=15
)
TCP = replace(
    UDP, name="tcp-room", bind=ADDRESSES["mine"], colour="yellow", tone_hz=1100, slides="magenta", floor="TCP"
)
LATE = replace(UDP, name="late-room", bind=ADDRESSES["nation"], colour="cyan", tone_hz=None, slides="green")
ONE_PICTURE = replace(WUMING, colour=GREEN)

SLIDES_IN_MAIN = Region(0.1, 0.25, 0.7, 0.75)
"""Most of where slides are in a main picture, with the speaker at their right."""
SHOWN = 30.0
"""Seconds to wait for a colour on a busy machine."""
BACK = 60.0
"""Seconds for a killed main to be back on a busy machine; how long it may take is asserted elsewhere."""


@dataclass(frozen=True, slots=True)
class Hall:
    udp: RoomTerminal
    tcp: RoomTerminal
    room: Baresip
    meeting: MeetingHandle
    ids: dict[str, str]

    async def control(self) -> dict[str, Any]:
        state: dict[str, Any] = await self.meeting.api.get(f"{self.meeting.path}/control")
        return state

    async def presents(self, who: str | None) -> None:
        """Wait until that one presents, or nobody."""
        wanted = None if who is None else self.ids[who]
        await until(self.control, lambda state: state["slides"] == wanted, f"{who} to present", SHOWN, 0.05)

    async def no_longer_sees(self, colour: Colour) -> None:
        """The room with one picture sees something else where slides were."""

        async def look() -> Colour:
            return mean_colour(await self.room.picture(), SLIDES_IN_MAIN)

        await until(look, lambda seen: not near(seen, colour), f"{colour} to be gone", SHOWN, 0.1)

    async def second_picture_stops(self, terminal: RoomTerminal) -> None:
        """Nothing more comes on its second stream."""
        seen = -1

        async def stands() -> bool:
            nonlocal seen
            before, seen = seen, terminal.second_screen.frames_received
            return before == seen

        await until(stands, bool, f"{terminal.settings.name} to get no slides", SHOWN, 1.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hall]:
    async with AsyncExitStack() as stack:
        udp = await stack.enter_async_context(RoomTerminal(UDP))
        tcp = await stack.enter_async_context(RoomTerminal(TCP))
        folder = tmp_path_factory.mktemp("slides")
        room = await stack.enter_async_context(Baresip(folder, ONE_PICTURE))
        meeting = await node.meeting("双流会商")
        await udp.dial(meeting.uri)
        await tcp.dial(meeting.uri)
        await room.dial(meeting.uri)
        await room.established()
        ids = {who: await meeting.joined(who) for who in (UDP.name, TCP.name, ONE_PICTURE.user)}
        yield Hall(udp, tcp, room, meeting, ids)


async def test_slides_by_datagrams_are_seen_by_all_and_end_when_they_are_taken_back(hall: Hall) -> None:
    await hall.udp.present()
    assert (await hall.control())["slides"] == hall.ids[UDP.name]
    await hall.tcp.sees_slides("blue", SHOWN)
    await hall.room.sees(BLUE, SLIDES_IN_MAIN, SHOWN)
    await hall.meeting.command("take-back-slides")
    await hall.udp.until(lambda: not hall.udp.presents, SHOWN, "its slides to be revoked")
    await hall.no_longer_sees(BLUE)
    await hall.second_picture_stops(hall.tcp)
    assert (await hall.control())["slides"] is None


async def test_the_latest_request_wins_over_a_stream_too_and_a_latecomer_sees_what_runs(hall: Hall) -> None:
    await hall.udp.present()
    await hall.tcp.sees_slides("blue", SHOWN)
    await hall.tcp.present()
    await hall.udp.until(lambda: not hall.udp.presents, SHOWN, "its slides to be revoked")
    await hall.udp.sees_slides("magenta", SHOWN)
    await hall.room.sees(MAGENTA, SLIDES_IN_MAIN, SHOWN)
    async with RoomTerminal(LATE) as late:
        await late.dial(hall.meeting.uri)
        await late.sees_slides("magenta", SHOWN)
        await late.present()
        await hall.tcp.until(lambda: not hall.tcp.presents, SHOWN, "its slides to be revoked")
        await hall.tcp.sees_slides("green", SHOWN)
        await late.hang_up()
    await hall.presents(None)


async def test_where_slides_are_not_allowed_a_terminal_is_denied(hall: Hall) -> None:
    await hall.meeting.api.post(f"{hall.meeting.path}/commands", {"command": "allow-slides", "on": False})
    with pytest.raises(FloorRefused, match="state 4"):
        await hall.tcp.present()
    assert not hall.tcp.presents
    await hall.meeting.command("allow-slides")


async def test_a_called_terminal_is_offered_slides_and_a_floor(hall: Hall) -> None:
    async with RoomTerminal(replace(LATE, name="called-room")) as called:
        wanted = {"address": called.uri, "site_id": "nation", "name": "called-room"}
        await hall.meeting.api.post(f"{hall.meeting.path}/participants", wanted)
        await called.answered()
        await hall.meeting.joined("called-room")
        await called.present()
        await hall.udp.sees_slides("green", SHOWN)
        await called.stop_presenting()
        await hall.presents(None)


async def test_slides_go_on_when_main_is_killed_and_end_as_before(node: Node, hall: Hall) -> None:
    await hall.udp.present()
    await hall.room.sees(BLUE, SLIDES_IN_MAIN, SHOWN)
    before = main_of(node)
    assert before is not None
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        if main_of(node) in (None, before) or await node.health() is None:
            return False
        rows = await hall.meeting.participants()
        return {row["id"] for row in rows if row["state"] == "connected"} == set(hall.ids.values())

    await until(back, bool, "all to be connected", BACK, 0.1)
    await hall.presents(UDP.name)
    await hall.room.sees(BLUE, SLIDES_IN_MAIN, SHOWN)
    await hall.tcp.sees_slides("blue", SHOWN)
    await hall.udp.stop_presenting()  # by the request of before
    await hall.presents(None)
    await hall.no_longer_sees(BLUE)
    await hall.udp.present()
    await hall.meeting.command("take-back-slides")
    await hall.udp.until(lambda: not hall.udp.presents, SHOWN, "its slides to be revoked")
