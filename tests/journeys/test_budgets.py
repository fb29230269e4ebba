"""Budgets and links: what is on the wire keeps to what was granted, and who cannot fit is told why."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from tests.journeys.raw_sip import AUDIO, VIDEO, RawCaller, sdp
from tests.journeys.scene import NANNING, TWO_TILES, WUMING, sees_all
from tests.journeys.wire import node_port, rates
from tests.peers.baresip import Baresip, Room
from tests.peers.node import ADDRESSES, RATE, MeetingHandle, Node, Refused
from tests.peers.picture import BLUE, RED
from tests.peers.requirement import requires
from tests.peers.tshark import Capture
from tests.peers.waiting import until_true

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]


def busy(room: Room) -> Room:
    """With a picture that costs bits, so that the mosaic fills what a site may get."""
    return replace(room, detail=90, video_bit_rate=1_200_000, video_codecs=())


HALF = RATE // 2
SENDER = TerminalSettings("sender", bind=ADDRESSES["wuming"], bitrate=1_100_000, detail=80, looped=False)
"""A terminal that heeds what it is asked to send by RTCP, which baresip does not."""
SYSTEM_ADMIN = "system-admin"
LINK = "nanning-wuming"


@requires("tshark")
async def test_halving_a_budget_halves_what_is_on_the_wire(meeting: MeetingHandle, tmp_path: Path) -> None:
    async with Baresip(tmp_path / "a", busy(NANNING)) as one, Baresip(tmp_path / "b", busy(WUMING)) as other:
        for room in (one, other):
            await room.dial(meeting.uri)
            await room.established()
        await meeting.joined(NANNING.user)
        other_id = await meeting.joined(WUMING.user)
        await sees_all(other, TWO_TILES, RED, BLUE)
        ports = [node_port(other, medium) for medium in ("audio", "video")]
        everything = f"udp and ({' or '.join(f'src portrange {port}-{port + 1}' for port in ports)})"
        async with Capture(tmp_path / "wire", everything, snap=96) as wire:
            began = time.time()
            await asyncio.sleep(3.0)
            asked = time.time()
            row = await meeting.set_budget(other_id, HALF, HALF)
            assert row["budget"] == {"to_site_bps": HALF, "from_site_bps": HALF}
            await asyncio.sleep(asked + 5.0 - time.time())
            ended = time.time()
            await wire.stop()
        before = await rates(wire, "udp", began, asked)
        after = await rates(wire, "udp", asked + 2.0, ended)
        assert HALF < max(before) <= RATE, "the old budget was used, and kept to"
        assert min(after) > 120_000, "pictures went on: sound alone takes 80 kbit/s"
        assert max(after) <= HALF, (before, after)
        await sees_all(other, TWO_TILES, RED, BLUE)


async def test_a_halved_budget_holds_for_what_the_site_sends_too(meeting: MeetingHandle) -> None:
    async with RoomTerminal(SENDER) as terminal:
        await terminal.dial(meeting.uri)
        terminal_id = await meeting.joined(SENDER.name)
        await until_true(lambda: sent_since(terminal, 0.0)[-1:] > [HALF], "more than half to be sent", 8.0)
        await meeting.set_budget(terminal_id, HALF, HALF)
        asked = time.monotonic()
        await until_true(lambda: len(sent_since(terminal, asked + 2.0)) >= 10, "two more seconds", 6.0)
        sent = sent_since(terminal, asked + 2.0)
        assert max(sent) <= HALF, sent
        assert min(sent) > 120_000, "pictures went on"


def sent_since(terminal: RoomTerminal, start: float) -> list[int]:
    """Bit/s that a terminal sent in each window of one second that began after `start` (monotonic)."""
    return [8 * second.sent for second in terminal.wire() if second.end - 1 >= start]


async def test_four_megabits_asked_are_answered_by_the_sites_three(
    node: Node, meeting: MeetingHandle
) -> None:
    async with RawCaller(node.sip_port, ADDRESSES["nation"]) as caller:
        answer = await caller.invite(meeting.number, sdp(AUDIO, VIDEO, bandwidth="AS:4000"))
    assert answer.status == 200
    limits = [int(limit) for limit in re.findall(r"^b=AS:(\d+)", answer.body, re.MULTILINE)]
    assert limits
    assert max(limits) == 3000


async def test_a_lower_limit_of_the_caller_is_its_budget(node: Node, meeting: MeetingHandle) -> None:
    async with RawCaller(node.sip_port, ADDRESSES["nation"], user="modest") as caller:
        answer = await caller.invite(meeting.number, sdp(AUDIO, VIDEO, bandwidth="AS:512"))
    assert answer.status == 200
    row = await meeting.participant("modest")
    assert row is not None
    assert row["budget"]["to_site_bps"] == 512_000


@pytest_asyncio.fixture(loop_scope="module")
async def narrow(node: Node) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    """Gives the link between Nanning and Wuming another capacity, for one test."""
    admin = await node.user(SYSTEM_ADMIN)

    def capacity(bits_per_second: int) -> Awaitable[Any]:
        return admin.patch(f"/links/{LINK}", {"capacity_bps": bits_per_second})

    before = {link["id"]: link["capacity_bps"] for link in await admin.get("/links")}[LINK]
    yield capacity
    await capacity(before)


async def test_a_full_link_refuses_with_its_name_and_figures(
    node: Node,
    meeting: MeetingHandle,
    narrow: Callable[[int], Awaitable[Any]],
    tmp_path: Path,
) -> None:
    words = "link nanning-wuming is full: capacity 1.5 Mbit/s, carries 1.4 Mbit/s, asked 1.4 Mbit/s"
    async with Baresip(tmp_path, WUMING) as first:
        await first.dial(meeting.uri)
        await first.established()
        await meeting.joined(WUMING.user)
        await narrow(1_500_000)
        admin = await node.user(SYSTEM_ADMIN)
        assert {link["id"]: link["carried_bps"] for link in await admin.get("/links")}[LINK] == RATE

        async with RawCaller(node.sip_port, ADDRESSES["mine"]) as second:
            answer = await second.invite(meeting.number, sdp(AUDIO, VIDEO))
        assert answer.status == 503
        assert words in answer.header("Warning")
        assert int(answer.header("Retry-After")) > 0

        with pytest.raises(Refused) as refused:
            await meeting.api.post(
                f"{meeting.path}/participants", {"address": "sip:x@127.0.0.4:9", "site_id": "mine"}
            )
        assert refused.value.status == 503
        assert refused.value.problem["detail"] == words
        assert refused.value.problem["limit"] == {
            "kind": "link",
            "name": LINK,
            "capacity_bps": 1_500_000,
            "carried_bps": RATE,
            "asked_bps": RATE,
        }
        assert int(refused.value.headers["Retry-After"]) > 0

        await narrow(2_000_000)
        async with RawCaller(node.sip_port, ADDRESSES["mine"], user="lowered") as second:
            answer = await second.invite(meeting.number, sdp(AUDIO, VIDEO))
        assert answer.status == 200, "what is left of the link is enough for less"
        row = await meeting.participant("lowered")
        assert row is not None
        assert row["budget"] == {"to_site_bps": 600_000, "from_site_bps": 600_000}
        assert "b=AS:600\r\n" in answer.body
        assert [event.type for event in first.events].count("CALL_CLOSED") == 0
