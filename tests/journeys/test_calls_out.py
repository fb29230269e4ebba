"""Rooms that the operator calls, and rooms that go without a word."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journeys.scene import FULL_TILE, MINE, NANNING, TWO_TILES, WUMING, sees_all
from tests.peers.baresip import Baresip
from tests.peers.node import MeetingHandle
from tests.peers.picture import BLUE, RED, YELLOW
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]


async def test_a_called_room_answers_and_is_seen_and_heard(meeting: MeetingHandle, tmp_path: Path) -> None:
    async with Baresip(tmp_path / "a", NANNING) as caller, Baresip(tmp_path / "b", MINE) as called:
        await caller.dial(meeting.uri)
        wanted = {"address": called.uri, "site_id": "mine", "name": "大明山矿业调度室"}
        row = await meeting.api.post(f"{meeting.path}/participants", wanted)
        assert row["state"] in ("calling", "connected")  # this room answers at once
        await called.established()
        joined = await meeting.in_state("调度室", "connected")
        assert (joined["id"], joined["site_id"]) == (row["id"], "mine")
        await sees_all(caller, TWO_TILES, RED, YELLOW)
        await sees_all(called, TWO_TILES, RED, YELLOW)
        await caller.hears(1320)
        await called.hears(440)
        await meeting.api.delete(f"{meeting.path}/participants/{row['id']}")
        await called.closed(timeout=2.0)


async def test_a_call_that_is_declined_or_never_rings_says_why(
    meeting: MeetingHandle, tmp_path: Path
) -> None:
    async with Baresip(tmp_path, replace(MINE, answers=False)) as called:
        await meeting.api.post(f"{meeting.path}/participants", {"address": called.uri, "name": "busy one"})
        await called.event("CALL_INCOMING")
        assert (await meeting.in_state("busy one", "calling"))["reason"] is None
        await called.command("hangup", "486 Busy Here")
        reason = (await meeting.left("busy one"))["reason"]
        assert reason.startswith(("486", "603", "480")), reason
    with PortBlock() as ports:
        nobody = f"sip:nobody@127.0.0.1:{ports.take()};transport=tcp"
        await meeting.api.post(f"{meeting.path}/participants", {"address": nobody, "name": "not there"})
        reason = (await meeting.left("not there"))["reason"]
        assert reason


async def test_cancelling_a_call_stops_the_ringing(meeting: MeetingHandle, tmp_path: Path) -> None:
    async with Baresip(tmp_path, replace(MINE, answers=False)) as called:
        row = await meeting.api.post(f"{meeting.path}/participants", {"address": called.uri})
        await called.event("CALL_INCOMING")
        await meeting.api.delete(f"{meeting.path}/participants/{row['id']}")
        await called.closed(timeout=2.0)
        assert (await meeting.left(MINE.user))["id"] == row["id"]


async def test_a_vanished_room_is_cleared_within_fifteen_seconds(
    meeting: MeetingHandle, tmp_path: Path
) -> None:
    async with Baresip(tmp_path / "a", NANNING) as staying, Baresip(tmp_path / "b", WUMING) as going:
        for room in (staying, going):
            await room.dial(meeting.uri)
            await room.established()
        await meeting.joined(NANNING.user)
        await sees_all(staying, TWO_TILES, RED, BLUE)
        going.vanish()
        gone = time.monotonic()
        await meeting.in_state(WUMING.user, "silent", timeout=13.0)
        row = await meeting.left(WUMING.user, timeout=gone + 15.0 - time.monotonic())
        assert row["reason"].startswith("vanished")
        await sees_all(staying, (FULL_TILE,), RED, timeout=gone + 15.0 - time.monotonic())
        assert [leg["participant_id"] for leg in (await meeting.report())["legs"]].count(row["id"]) == 0
