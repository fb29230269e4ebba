"""One site on the whole screen, over loopback: forwarded untouched, encoded only for who cannot take it."""

from __future__ import annotations

import asyncio

from foundation.desks import Budget, Direction, View
from protocols.payloads.h264 import split_byte_stream
from tests.mcu_bridge.conftest import FULL, LEFT, MEETING, RIGHT, Stage, full_screen
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, RED, VP8, YELLOW, RtpPeer
from tests.peers.waiting import until, until_true


async def test_a_full_screen_site_is_forwarded_untouched_and_nothing_is_encoded(stage: Stage) -> None:
    async with stage.pair() as (red, green):
        await green.sees(RED, LEFT)
        await stage.bridge.set_view(MEETING, full_screen("red"))
        await green.sees(RED)
        await red.sees(GREEN)  # its counterpart, forwarded too
        await until(stage.encoders, lambda keys: not keys, "no encoder", 5.0)
        assert await stage.feed("green") == "pass-through:red"
        green.frames.clear()
        await green.more_pictures(15)
        sent = {b"".join(split_byte_stream(data)) for data in red.sent_frames}
        assert {b"".join(split_byte_stream(data)) for data in green.frames} <= sent
        await stage.bridge.set_view(MEETING, View())
        await green.sees(GREEN, RIGHT)


async def test_who_cannot_take_the_forwarded_picture_has_an_encoder_and_drags_nobody(stage: Stage) -> None:
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports, bitrate=1_000_000) as red,
        RtpPeer(GREEN, 1000.0, ports) as green,
        RtpPeer(BLUE, 1700.0, ports) as blue,
        RtpPeer(YELLOW, 600.0, ports, video=VP8) as yellow,
    ):
        await stage.join("red", red)
        await stage.join("green", green)
        await stage.join("blue", blue, Budget(350_000, 350_000))
        await stage.join("yellow", yellow)
        await stage.bridge.set_view(MEETING, full_screen("red"))
        for peer in (green, blue, yellow):
            await peer.sees(RED)
        await until(lambda: stage.feed("blue"), lambda feed: "@" in feed, "a class for the slow site", 5.0)
        assert await stage.feed("green") == "pass-through:red"
        assert "VP8" in await stage.feed("yellow")
        encoders = (await stage.bridge.report(MEETING)).encoders
        reasons = {e.codec: e.reason for e in encoders if e.key.startswith("full-screen:red")}
        assert "do not fit" in reasons["H264"]
        assert "receiver takes VP8" in reasons["VP8"]


async def test_a_source_that_leaves_while_shown_gives_way_to_the_mosaic(stage: Stage) -> None:
    async with stage.pair() as (_, green):
        await stage.bridge.set_view(MEETING, full_screen("red"))
        await green.sees(RED)
        await stage.bridge.drop("red")
        await green.sees(GREEN)
        assert "mosaic" in await stage.feed("green")


async def test_a_source_whose_leg_is_made_anew_is_forwarded_again(stage: Stage) -> None:
    async with stage.pair() as (red, green):
        await stage.bridge.set_view(MEETING, full_screen("red"))
        await green.sees(RED)
        for _ in range(3):
            for direction in (Direction.RECVONLY, Direction.SENDRECV):
                red.answered(await stage.bridge.renegotiate("red", red.offer(direction)))
                red._frame = 0  # a key frame at once, before the next plan
            green.latest = None
            await green.sees(RED)
        await until(lambda: stage.feed("green"), lambda feed: feed == "pass-through:red", "pass-through", 5.0)
        await green.more_pictures(10)


async def test_a_new_budget_moves_a_receiver_to_another_class_and_back(stage: Stage) -> None:
    async with stage.pair() as (_, green):
        await green.sees(RED, LEFT)
        before = await stage.feed("green")
        await stage.bridge.set_budget("green", Budget(400_000, 400_000))
        await until(lambda: stage.feed("green"), lambda feed: feed != before, "a lower class", 2.0)
        await asyncio.sleep(1.2)  # a whole second at the new rate
        assert green.rate() <= 400_000
        await until_true(lambda: green.remb is not None and green.remb < 350_000, "REMB", 2.0)
        assert "848x480" in before or "640x360" in before
        assert await stage.feed("red") == before
        pictures = green.pictures
        await stage.bridge.set_budget("green", FULL)
        await until(lambda: stage.feed("green"), lambda feed: feed == before, "the old class", 2.0)
        await until_true(lambda: green.pictures > pictures + 10, "pictures in the old class", 4.0)
        await until(stage.encoders, lambda keys: keys == [before], "the lower encoder to end", 3.0)
