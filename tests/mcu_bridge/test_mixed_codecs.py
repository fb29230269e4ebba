"""Rooms of every codec in one meeting, over loopback; keys pressed; layouts chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundation.desks import CodecDescription, Direction, MediaDescription, Refusal, Staging, View, ViewMode
from foundation.events import DigitPressed
from protocols.payloads.telephone_event import TelephoneEvent
from protocols.rtp.packet import RtpPacket
from tests.mcu_bridge.conftest import MEETING, Stage
from tests.mcu_bridge.rtp_peer import (
    AAC,
    BLUE,
    G722,
    GREEN,
    H261,
    H263,
    H263_PLUS,
    LATM,
    OPUS,
    PCMA,
    RED,
    VP8,
    YELLOW,
    RtpPeer,
    Tile,
)
from tests.peers.waiting import until, until_true

CIF = (352, 288)
EVENTS = CodecDescription("TELEPHONE-EVENT", 101, 8_000)


async def test_h263_h261_and_h264_see_and_hear_each_other(stage: Stage) -> None:
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports, audio=OPUS) as red,
        RtpPeer(GREEN, 1000.0, ports, video=H263, size=CIF) as green,
        RtpPeer(BLUE, 1700.0, ports, video=H261, audio=G722, size=CIF) as blue,
        RtpPeer(YELLOW, 2300.0, ports, video=H263_PLUS, audio=PCMA, size=CIF) as yellow,
    ):
        peers = {"red": red, "green": green, "blue": blue, "yellow": yellow}
        for name, peer in peers.items():
            await stage.join(name, peer)
        corners = ((RED, 0, 0), (GREEN, 1, 0), (BLUE, 0, 1), (YELLOW, 1, 1))
        for peer in peers.values():
            for colour, column, row in corners:
                await peer.sees(colour, Tile(column, row, 2, 2))
            for other in peers.values():
                await peer.hears(other.hertz, present=other is not peer)
        assert sorted(await stage.encoders()) == [
            "mosaic H261 352x288@25 768k",
            "mosaic H263 352x288@25 768k",  # one for both payload formats
            "mosaic H264 640x360@25 600k",
        ]
        for name, colour in (("green", GREEN), ("blue", BLUE), ("red", RED)):
            await stage.bridge.set_view(MEETING, View(ViewMode.FULL_SCREEN, name))
            for other, peer in peers.items():
                if other != name:
                    await peer.sees(colour)
        assert red.latest is not None


async def test_aac_in_both_payload_formats_is_heard_and_hears(stage: Stage) -> None:
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports, video=None, audio=AAC) as red,
        RtpPeer(GREEN, 1000.0, ports, video=None, audio=LATM) as green,
        RtpPeer(BLUE, 1700.0, ports, video=None, audio=OPUS) as blue,
        RtpPeer(YELLOW, 2300.0, ports, video=None, audio=PCMA) as yellow,
    ):
        peers = {"red": red, "green": green, "blue": blue, "yellow": yellow}
        for name, peer in peers.items():
            answer = await stage.join(name, peer)
            assert [codec.name for codec in answer.sections[0].codecs] == [peer.audio.name]
        for peer in peers.values():
            for other in peers.values():
                await peer.hears(other.hertz, present=other is not peer)


async def test_h263_is_forwarded_between_both_payload_formats(stage: Stage) -> None:
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports, video=H263, size=CIF) as red,
        RtpPeer(GREEN, 1000.0, ports, video=H263_PLUS, size=CIF) as green,
        RtpPeer(BLUE, 1700.0, ports, video=VP8) as blue,
    ):
        for name, peer in (("red", red), ("green", green), ("blue", blue)):
            await stage.join(name, peer)
        await stage.bridge.set_view(MEETING, View(ViewMode.FULL_SCREEN, "red"))
        await green.sees(RED)
        await blue.sees(RED)
        assert await stage.feed("green") == "pass-through:red"
        keys = await stage.encoders()
        assert not any("full-screen:red H263" in key for key in keys), keys
        green.frames.clear()
        await green.more_pictures(8)
        assert set(green.frames) <= red.sent_frames
        await stage.bridge.set_view(MEETING, View(ViewMode.FULL_SCREEN, "green"))
        await red.sees(GREEN)
        assert await stage.feed("red") == "pass-through:green"


async def test_a_pressed_key_is_told_once_and_never_printed(stage: Stage) -> None:
    async with RtpPeer(RED, 0.0, stage.peer_ports) as red:
        red.sending = False
        offer = red.offer(Direction.SENDRECV)
        sound = replace(offer.sections[0], codecs=(PCMA, EVENTS))
        answer = await stage.join("red", red, offer=MediaDescription((sound, *offer.sections[1:])))
        assert [codec.name for codec in answer.sections[0].codecs] == ["PCMA", "TELEPHONE-EVENT"]
        packets, number = [], 0
        for key, began in (("4", 1600), ("#", 4000)):
            steps = [*((False, 160 * n) for n in range(1, 6)), *((True, 960) for _ in range(3))]
            for at, (end, duration) in enumerate(steps):
                event = TelephoneEvent("0123456789*#".index(key), end, 10, duration)
                packets.append(bytes(RtpPacket(101, number, began, 77, bytes(event), marker=at == 0)))
                number += 1
        del packets[8]  # the first packet of the second key is lost
        red.send_sound(packets)
        pressed = [DigitPressed(MEETING, "red", "4"), DigitPressed(MEETING, "red", "#")]

        def told() -> list[DigitPressed]:
            return [event for event in stage.events if isinstance(event, DigitPressed)]

        await until_true(lambda: len(told()) >= 2, "two keys", 3.0)
        assert told() == pressed
        assert "'4'" not in repr(pressed)


async def test_a_layout_is_chosen_for_all_and_for_one(stage: Stage) -> None:
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports) as red,
        RtpPeer(GREEN, 0.0, ports) as green,
        RtpPeer(BLUE, 0.0, ports) as blue,
    ):
        for name, peer in (("red", red), ("green", green), ("blue", blue)):
            await stage.join(name, peer)
        await green.sees(RED, Tile(0, 0, 2, 2))
        await stage.bridge.set_view(MEETING, View(layout="3x3"))
        for colour, column in ((RED, 0), (GREEN, 1), (BLUE, 2)):
            await green.sees(colour, Tile(column, 0, 3, 3))
        await stage.bridge.set_view(MEETING, View(layout="1+5"))
        await green.sees(RED, Tile(0, 0, 2, 2))  # who speaks, on two thirds of the picture
        await green.sees(GREEN, Tile(2, 0, 3, 3))
        assert await stage.encoders() == ["mosaic H264 640x360@25 600k"]
        own = Staging(views={"blue": View(layout="2x2")})
        await stage.bridge.set_staging(MEETING, View(layout="speaker"), own)
        await blue.sees(GREEN, Tile(1, 0, 2, 2))
        await green.sees(GREEN, Tile(2, 0, 3, 3))
        both = ["mosaic 2x2 H264 640x360@25 600k", "mosaic H264 640x360@25 600k"]
        await until(stage.encoders, lambda keys: sorted(keys) == both, "an encoder for each", 3.0)
        with pytest.raises(Refusal, match="5x5"):
            await stage.bridge.set_view(MEETING, View(layout="5x5"))
