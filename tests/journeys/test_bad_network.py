"""A mixed meeting on a bad network, under control for a minute: the short one of `make soak MEETING=1`."""

from pathlib import Path

import pytest

from benchmarks.meeting_soak import MIXED, MeetingSoak
from benchmarks.soak import settle
from benchmarks.vigil import Vigil
from orchestrator.demo.terminal.studio import Studio
from tests.peers.node import Node

SECONDS = 60.0
ROOMS = MIXED[:4]
SMALL = {"media": {"mosaic": {"width": 640, "height": 360, "fps": 15}}}
NEVER = float("inf")
"""A minute is too short to fit memory's growth."""


@pytest.mark.timeout(480)
async def test_a_minute_of_loss_and_orders_leaves_everybody_right_and_nothing_behind(tmp_path: Path) -> None:
    async with Node(tmp_path, settings=SMALL) as node, Studio() as studio:
        meeting = await node.meeting("坏网络")
        await MeetingSoak(node, meeting, studio, ROOMS, seed=1).play(0.0)
        await settle(meeting)
        vigil, soak = Vigil(node), MeetingSoak(node, meeting, studio, ROOMS, seed=2)
        before = await vigil.held()
        await soak.play(SECONDS)
        await settle(meeting)
        after = await vigil.held()
    assert soak.happened.problems == []
    assert vigil.problems(before, after, NEVER) == []
    assert sum(soak.happened.done.values()) > 5
    for room in soak.quality:
        lost, carried = room["packets_lost_on_the_road"], room["packets_on_the_road"]
        assert isinstance(lost, int)
        assert isinstance(carried, int)
        assert 0.015 < lost / carried < 0.06, room
