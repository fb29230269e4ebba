"""The helpers themselves: two real terminals see each other's colour and hear each other's tone."""

from pathlib import Path

import pytest

from tests.peers.baresip import Baresip, Room
from tests.peers.picture import BLUE, YELLOW, mean_colour, near
from tests.peers.requirement import requires
from tests.peers.sound import hears

pytestmark = requires("baresip")


@pytest.mark.parametrize(
    ("transport", "codec"), [("udp", "PCMA/8000/1"), ("tcp", "opus/48000/1"), ("udp", "G722/16000/1")]
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


async def test_a_terminal_of_all_codecs_prefers_h264_and_offers_both_modes(tmp_path: Path) -> None:
    async with (
        Baresip(tmp_path / "a", Room("a", video_codecs=())) as caller,
        Baresip(tmp_path / "b", Room("b", YELLOW, video_codecs=())) as callee,
    ):
        await caller.dial(callee.uri)
        await caller.established()
        await caller.sees(YELLOW)
        offer = (tmp_path / "b" / "baresip.log").read_text().partition("m=video")[2]
        assert offer.index("H264/90000") < offer.index("VP8/90000")
        assert "packetization-mode=0" in offer
        assert "packetization-mode=1" in offer


def test_a_codec_it_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="H264/1"):
        Room(video_codecs=("H264/1",))


async def test_a_call_to_nobody_ends_with_the_reason(tmp_path: Path) -> None:
    rejecting = Room("quiet", answers=False)
    async with Baresip(tmp_path / "a") as caller, Baresip(tmp_path / "b", rejecting) as callee:
        await caller.dial(callee.uri)
        await callee.event("CALL_INCOMING")
        await callee.hang_up()
        assert "Rejected" in (await caller.closed()).parameter
