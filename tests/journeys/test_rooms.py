"""Room terminals in a meeting: seen, heard, named, muted, dropped, and sent home at the end."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.journeys.names import best_name
from tests.journeys.scene import (
    FOUR_TILES,
    MINE,
    NANNING,
    TWO_TILES,
    WUMING,
    falls_silent,
    last_heard,
    sees_all,
)
from tests.journeys.wire import answer_to
from tests.peers.baresip import Baresip
from tests.peers.node import MeetingHandle, Node
from tests.peers.picture import BLUE, RED, YELLOW, Colour, Region, mean_colour, near
from tests.peers.requirement import requires
from tests.peers.sound import hears
from tests.peers.waiting import until

pytestmark = [requires("baresip"), pytest.mark.asyncio(loop_scope="module")]

OPUS_ROOM = replace(NANNING, audio_codecs=("opus/48000/1",), video_codecs=())
PLAIN_ROOM = replace(WUMING, audio_codecs=("PCMA/8000/1",), transport="tcp", address="127.0.0.1")
PLACES = tuple(zip((Region(0, 0.65, 0.5, 0.75), Region(0.5, 0.65, 1, 0.75)), TWO_TILES, strict=True))
"""Where a mosaic of two has the names, and the pictures above them."""


@dataclass(frozen=True, slots=True)
class Two:
    """Opus, H.264 in any mode, by UDP, from Nanning; G.711, H.264 mode 0, by TCP, from the node's site."""

    opus: Baresip
    plain: Baresip
    meeting: MeetingHandle
    opus_id: str
    plain_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    folder = tmp_path_factory.mktemp("rooms")
    async with AsyncExitStack() as stack:
        opus = await stack.enter_async_context(Baresip(folder / "opus", OPUS_ROOM))
        plain = await stack.enter_async_context(Baresip(folder / "plain", PLAIN_ROOM))
        meeting = await node.meeting()
        await opus.dial(meeting.uri)
        await plain.dial(meeting.uri)
        await opus.established()
        await plain.established()
        ids = await meeting.joined("nanning-room"), await meeting.joined("wuming-room")
        yield Two(opus, plain, meeting, *ids)


async def test_each_sees_both_and_hears_the_other_only(two: Two) -> None:
    await sees_all(two.opus, TWO_TILES, RED, BLUE)
    await sees_all(two.plain, TWO_TILES, RED, BLUE)
    await two.opus.hears(880)
    await two.plain.hears(440)
    assert not hears(last_heard(two.opus), 440)
    assert not hears(last_heard(two.plain), 880)


async def test_they_use_what_they_agreed(two: Two) -> None:
    for participant_id, codec in ((two.opus_id, "OPUS"), (two.plain_id, "PCMA")):
        for outgoing in (True, False):
            sound = await two.meeting.leg(participant_id, "audio", outgoing=outgoing)
            picture = await two.meeting.leg(participant_id, "video", outgoing=outgoing)
            assert sound is not None
            assert picture is not None
            assert sound["codec"] == codec
            assert picture["codec"] == "H264"
            assert picture["frames"] > 0
    assert "packetization-mode=1" in answer_to(two.opus)
    assert "packetization-mode=0" in answer_to(two.plain)
    assert "SIP/2.0/TCP" in answer_to(two.plain)


async def test_each_picture_bears_its_sites_name(two: Two) -> None:
    names = ("南宁市", "广西应急管理厅", "武鸣县", "大明山矿业")

    async def look() -> dict[str, Colour]:
        """The colours above the names that can be read."""
        picture = await two.opus.picture()
        found = ((best_name(picture, feet, names), mean_colour(picture, tile)) for feet, tile in PLACES)
        return {name: colour for (name, fit), colour in found if fit > 0.6}

    def right(seen: dict[str, Colour]) -> bool:
        meant = {"南宁市": RED, "广西应急管理厅": BLUE}
        return seen.keys() == meant.keys() and all(near(seen[name], meant[name]) for name in meant)

    # The bar that travels along the lower edge of the footage covers a name now and then.
    await until(look, right, "each site's name below its picture", 6.0)


async def test_a_late_joiner_has_a_picture_within_two_seconds(two: Two, tmp_path: Path) -> None:
    async with Baresip(tmp_path, MINE) as late:
        await late.dial(two.meeting.uri)
        await late.established()
        began = time.monotonic()
        await sees_all(late, FOUR_TILES, RED, BLUE, timeout=2.0)
        assert time.monotonic() - began <= 2.0
        await sees_all(two.opus, FOUR_TILES, RED, BLUE, YELLOW)
        await two.plain.hears(1320)
        await late.hang_up()
        left = await two.meeting.left("mine-room")
        assert left["reason"]
    await sees_all(two.opus, TWO_TILES, RED, BLUE)


async def test_mute_silences_a_site_at_the_others_within_a_second(two: Two) -> None:
    await two.plain.hears(440)
    await two.meeting.command("mute", two.opus_id)
    await falls_silent(two.plain, 440, timeout=1.0)
    row = await two.meeting.participant("nanning-room")
    assert row is not None
    assert row["muted"] is True
    await two.opus.hears(880)
    await two.meeting.command("unmute", two.opus_id)
    await two.plain.hears(440, timeout=3.0, seconds=0.5)


async def test_the_chime_is_heard_by_whom_it_is_played_to(two: Two) -> None:
    path = f"{two.meeting.path}/announcements"
    assert await two.meeting.api.get(path) == ["chime"]
    await two.meeting.api.post(path, {"sound": "chime", "participant_id": two.opus_id})
    await two.opus.hears(659, seconds=0.4)
    assert not hears(last_heard(two.plain, 0.5), 659)
    await two.meeting.api.post(path, {"sound": "chime"})
    await two.plain.hears(659, seconds=0.4)


async def test_dropped_and_ended_rooms_get_their_bye(node: Node, tmp_path: Path) -> None:
    meeting = await node.meeting()
    async with Baresip(tmp_path / "a", WUMING) as first, Baresip(tmp_path / "b", MINE) as second:
        for room in (first, second):
            await room.dial(meeting.uri)
            await room.established()
        dropped = await meeting.joined("wuming-room")
        await meeting.joined("mine-room")
        await meeting.api.delete(f"{meeting.path}/participants/{dropped}")
        await first.closed(timeout=2.0)
        assert "dropped by operator" in (await meeting.left("wuming-room"))["reason"]
        assert not [event for event in second.events if event.type == "CALL_CLOSED"]
        await meeting.command("end")
        await second.closed(timeout=2.0)
        assert "ended by operator" in (await meeting.left("mine-room"))["reason"]
