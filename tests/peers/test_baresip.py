"""The helpers themselves: two real terminals see each other's colour and hear each other's tone."""

from pathlib import Path

import pytest

from tests.peers.baresip import Baresip, Room
from tests.peers.picture import BLUE, YELLOW, mean_colour, near
from tests.peers.requirement import requires
from tests.peers.sound import hears

pytestmark = requires("baresip")


@pytest.mark.parametrize(
    ("transport", "codec"), [("udp", "PCMA/8000/1"), ("tcp", "opus/48000/2"), ("udp", "G722/16000/1")]
)
async def test_two_terminals_see_and_hear_each_other(tmp_path: Path, transport: str, codec: str) -> None:
    blue = Room("blue", BLUE, 440, (codec,), transport=transport)
    yellow = Room("yellow", YELLOW, 1000, (codec,), transport=transport)
    async with Baresip(tmp_path / "blue", blue) as caller, Baresip(tmp_path / "yellow", yellow) as callee:
        await caller.dial(callee.uri)
        await caller.established()
        await callee.sees(BLUE)
        await caller.sees(YELLOW)
        await callee.hears(440)
        await caller.hears(1000)
        own = caller.heard(1.0)
        assert own is not None
        assert not hears(own, 440)
        assert not near(mean_colour(await caller.picture()), BLUE)
        await caller.hang_up()
        await callee.closed()


async def test_a_call_to_nobody_ends_with_the_reason(tmp_path: Path) -> None:
    rejecting = Room("quiet", answers=False)
    async with Baresip(tmp_path / "a") as caller, Baresip(tmp_path / "b", rejecting) as callee:
        await caller.dial(callee.uri)
        await callee.event("CALL_INCOMING")
        await callee.hang_up()
        assert "Rejected" in (await caller.closed()).parameter
