"""A room that reads b= and nothing else: a trickle while nobody sees it, all of it before its turn."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
import yaml

from foundation.desks import SectionKind
from orchestrator.demo.terminal.footage import CENTRE, TOLERANCE
from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings, rgb
from tests.peers.node import ADDRESSES, MeetingHandle, Node
from tests.peers.ports import PortBlock
from tests.peers.waiting import until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRICKLE = 64_000
SOUND = 90_000
"""bit/s of G.711 with its headers, and RTCP."""
RATE = 600_000
RED = TerminalSettings("red-room", bind=ADDRESSES["nanning"], colour="red", tone_hz=None, fps=15)
GREEN = replace(RED, name="green-room", bind=ADDRESSES["wuming"], colour="green")
BLUE = replace(
    RED,
    name="blue-room",
    bind=ADDRESSES["mine"],
    colour="blue",
    feedback=False,
    bitrate=RATE,
    detail=40,
    looped=False,
)
TURN = 20.0
"""Seconds of each turn: unseen for ten of them, a site is asked for a trickle."""
SOON = 40.0


class AskingNode(Node):
    """Lowers by re-INVITE who heeds nothing else."""

    def _configure(self, ports: PortBlock) -> None:
        super()._configure(ports)
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        settings["networks"][0]["sip"] |= {"flow_by_reinvite": True}
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AskingNode]:
    async with AskingNode(tmp_path_factory.mktemp("node")) as running:
        yield running


def told(terminal: RoomTerminal) -> int:
    """The b= of the picture that the node described last."""
    assert terminal.media is not None
    assert terminal.media.theirs is not None
    section = next(s for s in terminal.media.theirs.sections if s.kind is SectionKind.VIDEO)
    assert section.bandwidth_bps is not None
    return section.bandwidth_bps


def sent(terminal: RoomTerminal, since: float) -> list[int]:
    """bit/s in each window of a second that began after that."""
    return [8 * second.sent for second in terminal.wire() if second.end - 1.0 >= since]


async def test_a_room_is_brought_to_a_trickle_and_up_before_its_turn(meeting: MeetingHandle) -> None:
    async with RoomTerminal(RED) as red, RoomTerminal(GREEN) as green, RoomTerminal(BLUE) as blue:
        for room in (red, green, blue):
            await room.dial(meeting.uri)
        ids = {room.settings.name: await meeting.joined(room.settings.name) for room in (red, green, blue)}
        full = told(blue)
        assert full > 2 * TRICKLE + SOUND
        began = time.monotonic()
        await until_true(lambda: max(sent(blue, began), default=0) > RATE // 2, "its whole picture", SOON)
        chosen = {"participant_id": ids[GREEN.name], "target_id": ids[RED.name]}
        await meeting.api.post(f"{meeting.path}/commands", {"command": "select-view", **chosen})
        turns = {"order": [ids[GREEN.name], ids[BLUE.name]], "interval": TURN}
        await meeting.api.post(f"{meeting.path}/commands", {"command": "poll", **turns})
        await red.sees("green", timeout=SOON)
        await until_true(lambda: told(blue) == TRICKLE, "the trickle to be asked for", SOON)
        lowered = time.monotonic()
        await until_true(
            lambda: bool(sent(blue, lowered)) and sent(blue, lowered)[-1] < TRICKLE + SOUND,
            "the wire to carry a trickle",
            TURN - 10.0,
            lambda: str(sent(blue, lowered)),
        )
        await until_true(lambda: told(blue) == full, "the whole picture to be asked for", SOON)
        assert not red.screen.shows(rgb("blue"), CENTRE, TOLERANCE), "asked for before its turn, not at it"
        raised = time.monotonic()
        await red.sees("blue", timeout=SOON)
        await until_true(lambda: max(sent(blue, raised), default=0) > RATE // 2, "all of it", SOON)
        assert await counted(meeting)


async def counted(meeting: MeetingHandle) -> bool:
    """Whether the node counts what it asked for."""
    metrics = await meeting.node.metrics()
    return all(f'anshi_main{{what="picture_flow_{way}"}}' in metrics for way in ("lowered", "raised"))
