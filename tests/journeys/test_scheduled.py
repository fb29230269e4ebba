"""A meeting that opens by the clock, calls its rooms, and is written up when it is over."""

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.journeys.scene import FOUR_TILES, FULL_TILE, MINE, NANNING, sees_all
from tests.peers.baresip import Baresip
from tests.peers.node import MeetingHandle, Node
from tests.peers.picture import RED, YELLOW
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]


async def test_a_scheduled_meeting_calls_its_rooms_and_has_minutes(node: Node, tmp_path: Path) -> None:
    operator = await node.user()
    async with Baresip(tmp_path / "a", NANNING) as one, Baresip(tmp_path / "b", MINE) as other:
        wanted = {
            "title": "调度例会",
            "host_site_id": "gx",
            "starts_at": (datetime.now(UTC) + timedelta(seconds=2)).isoformat(),
            "duration_minutes": 30,
            "participants": [
                {"address": one.uri, "site_id": "nanning", "name": "南宁市"},
                {"address": other.uri, "site_id": "mine", "name": "大明山矿业", "on_screen": True},
                {"address": f"sip:nobody@127.0.0.9:{one.sip_port}", "name": "缺席"},
            ],
        }
        schedule = await operator.post("/schedules", wanted)
        held = await until(
            lambda: operator.get(f"/schedules/{schedule['id']}"),
            lambda row: row["conference_id"] is not None,
            "the meeting to open",
            10,
        )
        conference = await operator.get(f"/conferences/{held['conference_id']}")
        meeting = MeetingHandle(node, operator, conference["id"], conference["number"])
        await one.established()
        await other.established()
        await sees_all(one, (FULL_TILE,), YELLOW)  # the one that was to be on the screen
        await meeting.command("mosaic")
        await sees_all(one, FOUR_TILES, RED, YELLOW)  # the one that rings has a place too
        plan = await operator.get(f"{meeting.path}/plan")
        assert [bool(row["participant_id"]) for row in plan["participants"]] == [True, True, False]
        longer = await operator.post(f"{meeting.path}/extend", {"minutes": 30})
        assert longer["ends_at"] > plan["ends_at"]
        await other.hang_up()
        await meeting.left("大明山矿业")
        await meeting.command("end")
    url = f"{node.url}/api/v1{meeting.path}/minutes.csv"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
        session.get(url, headers=operator.headers) as answer,
    ):
        lines = list(csv.reader(io.StringIO((await answer.read()).decode("utf-8-sig"))))
    stays = {line[0]: line for line in lines if len(line) == 13}
    assert stays["大明山矿业"][1] == "大明山矿业"
    assert stays["大明山矿业"][5]
    assert stays["大明山矿业"][7:9] == ["PCMA", "H264"]
    assert stays["大明山矿业"][9].endswith(" %")
    commands = [line[1:3] for line in lines if len(line) == 6]
    assert ["scheduler", "open-conference"] in commands
    assert ["operator", "extend"] in commands
