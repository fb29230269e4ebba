"""What control makes of a meeting, seen and heard at rooms' ends over loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foundation.desks import ConferenceSpec, Refusal, RefusalKind, Staging, View
from mcu_bridge.access import MediaAccess
from mcu_bridge.banner import STRIP
from mcu_bridge.bridge import MOST_WITHOUT_SELF, Bridge
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.video_composer import CARD
from media.rtp_socket import PortRange
from tests.mcu_bridge.conftest import LEFT, MEETING, RIGHT, Stage, full_screen, settings
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, RED, VP8, RtpPeer, Tile
from tests.peers.ports import PortBlock
from tests.peers.waiting import until, until_true

FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
CARD_COLOUR = CARD
MOSAIC = View()
SOON = 1.0
"""Seconds in which a command shows or sounds at a terminal."""


@pytest.fixture
async def rooms(stage: Stage) -> AsyncIterator[tuple[RtpPeer, RtpPeer, RtpPeer]]:
    """Red, green and blue, who see and hear one another."""
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports) as red,
        RtpPeer(GREEN, 1000.0, ports) as green,
        RtpPeer(BLUE, 1700.0, ports) as blue,
    ):
        for name, peer in (("red", red), ("green", green), ("blue", blue)):
            await stage.join(name, peer)
        await green.sees(RED, Tile(0, 0, 2, 2))
        await green.sees(BLUE, Tile(0, 1, 2, 2))
        yield red, green, blue


async def test_each_sees_what_it_chose_and_the_others_what_the_meeting_shows(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    red, green, blue = rooms
    chosen = Staging(views={"green": full_screen("blue")})
    await stage.bridge.set_staging(MEETING, full_screen("red"), chosen)
    await green.sees(BLUE, timeout=SOON)
    await blue.sees(RED, timeout=SOON)
    assert await stage.feed("green") == "pass-through:blue"
    await stage.bridge.set_staging(MEETING, full_screen("red"), Staging())
    await green.sees(RED, timeout=SOON)
    lecture = Staging(views={"red": View(page=("green", "blue"))})
    await stage.bridge.set_staging(MEETING, full_screen("red"), lecture)
    await red.sees(GREEN, LEFT, timeout=2 * SOON)
    await red.sees(BLUE, RIGHT)
    assert blue.shows(RED)


async def test_a_camera_that_is_off_is_seen_by_nobody(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    _red, green, blue = rooms
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging(cameras_off=frozenset({"red"})))
    await until_true(
        lambda: not any(green.shows(RED, Tile(x, y, 2, 2)) for x in (0, 1) for y in (0, 1)), "no red", SOON
    )
    await stage.bridge.set_staging(MEETING, full_screen("red"), Staging(cameras_off=frozenset({"red"})))
    await blue.sees(CARD_COLOUR, timeout=2 * SOON)
    await stage.bridge.set_staging(MEETING, full_screen("red"), Staging())
    await blue.sees(RED, timeout=SOON)


async def test_who_is_deafened_hears_nothing_and_is_heard(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    red, green, _blue = rooms
    await green.hears(440.0)
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging(deafened=frozenset({"green"})))
    began = time.monotonic()
    await green.hears(440.0, present=False, timeout=2 * SOON)  # of which 0.6 s are listened back
    assert time.monotonic() - began < 0.6 + SOON
    await red.hears(1000.0)
    green_again = green.offer()
    green.answered(await stage.bridge.renegotiate("green", green_again))
    await asyncio.sleep(0.7)  # as long as sound is listened back
    await green.hears(440.0, present=False)
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging())
    await green.hears(440.0, timeout=2 * SOON)


async def test_a_site_s_gain(stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]) -> None:
    red, green, blue = rooms
    blue.sending = False
    await green.hears(440.0)
    await green.hears(1700.0, present=False)

    def loudness() -> float:
        heard = green.sound.samples[-9600:]
        return float(np.sqrt(np.mean(heard**2)))

    before = loudness()
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging(gains_db={"red": -20.0}))
    await until_true(lambda: loudness() < before / 5, "red to be quieter", SOON, lambda: str(loudness()))
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging())
    await until_true(lambda: loudness() > before / 2, "red to be as loud as before", SOON)
    assert red.sending


async def test_who_waits_outside_sees_the_prompt_only_and_is_neither_seen_nor_heard(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    red, green, blue = rooms
    outside = Staging(prompts={"blue": "请等待主持人准入"})
    await stage.bridge.set_staging(MEETING, MOSAIC, outside)
    await blue.sees(CARD_COLOUR, timeout=2 * SOON)
    await green.sees(RED, LEFT)
    await green.sees(GREEN, RIGHT)
    await green.hears(1700.0, present=False)
    await green.hears(440.0)
    await blue.hears(440.0, present=False)
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging())
    await blue.sees(RED, Tile(0, 0, 2, 2), timeout=2 * SOON)
    await green.hears(1700.0)
    await blue.hears(440.0)
    assert red.pictures


async def test_a_site_that_asks_not_to_see_itself_has_a_mosaic_of_its_own_while_there_is_room(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    _red, green, blue = rooms
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging(without_self=frozenset({"green"})))
    await green.sees(RED, LEFT, timeout=2 * SOON)
    await green.sees(BLUE, RIGHT)
    assert blue.shows(BLUE, Tile(0, 1, 2, 2))
    assert await stage.feed("green") != await stage.feed("blue")
    many = frozenset(f"site {n}" for n in range(MOST_WITHOUT_SELF + 1))
    with pytest.raises(Refusal) as refused:
        await stage.bridge.set_staging(MEETING, full_screen("red"), Staging(without_self=many))
    assert refused.value.kind is RefusalKind.NO_CAPACITY
    await green.sees(RED, LEFT)
    await stage.bridge.set_staging(MEETING, MOSAIC, Staging())
    await green.sees(RED, Tile(0, 0, 2, 2), timeout=2 * SOON)


async def test_pages_of_a_mosaic_turn_without_a_card_in_between(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    _red, green, _blue = rooms
    await stage.bridge.set_staging(MEETING, View(page=("red",)), Staging())
    await green.sees(RED, timeout=2 * SOON)
    seen: list[tuple[int, int, int]] = []
    view = View(page=("red",))
    for turn, following, colour in (("blue", "green", BLUE), ("green", "red", GREEN), ("red", "blue", RED)):
        await stage.bridge.set_staging(MEETING, view, Staging(next_shown=(turn,)))
        await asyncio.sleep(0.6)
        view = View(page=(turn,))
        await stage.bridge.set_staging(MEETING, view, Staging(next_shown=(following,)))
        began = time.monotonic()
        while not green.shows(colour):
            assert time.monotonic() - began < SOON, f"{turn} is not shown, but {green.colour()}"
            now = green.colour()
            assert now is not None
            seen.append(now)
            await asyncio.sleep(0.02)
    assert all(any(_near(now, colour) for colour in (RED, GREEN, BLUE)) for now in seen), seen


async def test_the_second_of_two_quick_switches_is_no_slower_and_neither_shows_grey(
    stage: Stage, rooms: tuple[RtpPeer, RtpPeer, RtpPeer]
) -> None:
    _red, green, blue = rooms
    await stage.bridge.set_view(MEETING, full_screen("red"))
    await green.sees(RED, timeout=2 * SOON)
    seen: list[tuple[int, int, int]] = []
    took: list[float] = []
    for _pair in range(3):
        for name, colour in (("blue", BLUE), ("red", RED)):
            began = time.monotonic()
            await stage.bridge.set_view(MEETING, full_screen(name))
            while not green.shows(colour):
                assert time.monotonic() - began < 5 * SOON, f"{name} is not shown, but {green.colour()}"
                now = green.colour()
                assert now is not None
                seen.append(now)
                await green.more_pictures(1)
            took.append(time.monotonic() - began)
    assert not [now for now in seen if not _near(now, RED) and not _near(now, BLUE)], seen
    assert sorted(took)[len(took) // 2] < SOON, took
    assert blue.keyframe_requests >= 3


def _near(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 20 for a, b in zip(one, other, strict=True))


@pytest.mark.skipif(not FONT.exists(), reason="needs Debian's fonts-noto-cjk")
async def test_a_banner_is_drawn_on_mosaics_and_transcoded_full_screens_and_everywhere_if_insisted(
    access: MediaAccess, block: PortBlock
) -> None:
    first = block.take(40, even=True)
    ports = PortRange(first, first + 39)
    drawn = replace(settings(), captions=CaptionPainter(FONT))
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(Bridge(drawn, access, lambda _event: None))
        await bridge.open(ConferenceSpec(MEETING, "1000", "A meeting", MOSAIC))
        stage = Stage(access, ports, bridge)
        red = await stack.enter_async_context(RtpPeer(RED, 440.0, ports))
        green = await stack.enter_async_context(RtpPeer(GREEN, 1000.0, ports))
        blue = await stack.enter_async_context(RtpPeer(BLUE, 1700.0, ports, video=VP8))
        for name, peer in (("red", red), ("green", green), ("blue", blue)):
            await stage.join(name, peer)
        await green.sees(RED, Tile(0, 0, 2, 2))
        assert not _bannered(green)
        await bridge.set_staging(MEETING, MOSAIC, Staging(banner="会议纪律：请将手机调至静音"))
        await until_true(lambda: _bannered(green), "the banner in the mosaic", SOON)
        await bridge.set_staging(MEETING, full_screen("red"), Staging(banner="会议纪律：请将手机调至静音"))
        await green.sees(RED)
        await blue.sees(RED)
        await until_true(lambda: _bannered(blue), "the banner on the transcoded picture", 2 * SOON)
        assert await stage.feed("green") == "pass-through:red"
        assert not _bannered(green)
        insisted = Staging(banner="会议纪律：请将手机调至静音", banner_everywhere=True)
        await bridge.set_staging(MEETING, full_screen("red"), insisted)
        await until_true(lambda: _bannered(green), "the banner on every picture", 2 * SOON)
        await bridge.set_staging(MEETING, full_screen("red"), Staging())
        await until(
            lambda: stage.feed("green"), lambda feed: feed == "pass-through:red", "red untouched", 3.0
        )
        await until_true(lambda: not _bannered(green) and not _bannered(blue), "no banner", 2 * SOON)


def _bannered(peer: RtpPeer) -> bool:
    """The strip's colour in the upper corners, where no letters are."""
    picture = peer.latest
    if picture is None:
        return False
    corner = [float(plane[: plane.shape[0] // 24, : plane.shape[1] // 30].mean()) for plane in picture.planes]
    return all(abs(a - b) <= 18 for a, b in zip(corner, STRIP, strict=True))
