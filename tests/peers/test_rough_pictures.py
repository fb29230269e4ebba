"""Pictures of old codecs over a bad network, from a terminal that makes no key frame when asked."""

import pytest

from orchestrator.demo.terminal.footage import COLOURS
from orchestrator.demo.terminal.reels import LoopedCamera
from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio
from tests.peers.rough_road import RoughRoad, Weather
from tests.peers.waiting import until_true

PICTURES = 225
"""15 seconds of them."""
DAMAGED = 20


@pytest.mark.parametrize("codec", ["H263", "H261"])
async def test_three_percent_loss_costs_parts_of_pictures_and_not_seconds(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown is compared with what came, so that it matters nothing how busy the machine is."""
    monkeypatch.setattr(LoopedCamera, "restart", lambda _camera: None)
    room = TerminalSettings(
        "room", colour="red", video=(codec,), width=352, height=288, fps=15, detail=20, feedback=False
    )
    other = TerminalSettings("other", colour="blue", video=(codec,), width=352, height=288, fps=15)
    async with (
        Studio() as studio,
        RoomTerminal(room, studio) as caller,
        RoomTerminal(other, studio) as called,
    ):
        port = int(called.uri.partition(";")[0].rpartition(":")[2])
        async with RoughRoad(port, Weather(0.03, jitter=0.02), address="127.0.0.2", seed=5) as road:
            await caller.dial(road.uri("other"))
            await called.answered()
            await called.sees("red")
            screen = called.screen
            received, decoded, damaged = screen.frames_received, screen.frames_decoded, screen.frames_damaged
            await until_true(
                lambda: (
                    screen.frames_received - received >= PICTURES
                    and screen.frames_damaged - damaged >= DAMAGED
                ),
                "pictures to come, many of them damaged",
                120,
            )
            assert screen.frames_decoded - decoded >= 0.9 * (screen.frames_received - received)
            assert screen.shows(COLOURS["red"])
            await called.hang_up()
            await caller.over()
