"""A real bridge over loopback: who is seen and heard, what it costs, and what is left when all have gone."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from dataclasses import replace

import pytest

from foundation.desks import (
    CodecDescription,
    ConferenceSpec,
    Dialled,
    MediaDescription,
    Refusal,
    RefusalKind,
    SectionKind,
    View,
)
from foundation.events import ParticipantSilent, SpeakersChanged
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge
from media.rtp_socket import PortRange, RtpSocket
from media.transport import NobodyListening
from tests.mcu_bridge.conftest import FULL, LEFT, MEETING, RIGHT, Stage, full_screen, settings
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, H263, H264_MODE_0, OPUS, RED, VP8, RtpPeer, Tile
from tests.peers.ports import PortBlock
from tests.peers.waiting import until_true


async def test_each_sees_all_tiles_and_hears_all_but_itself(stage: Stage) -> None:
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports) as red,
        RtpPeer(GREEN, 1000.0, ports, video=VP8, audio=OPUS) as green,
        RtpPeer(BLUE, 1700.0, ports, video=H264_MODE_0) as blue,
    ):
        for name, peer in (("red", red), ("green", green), ("blue", blue)):
            await stage.join(name, peer)
        corners = ((RED, Tile(0, 0, 2, 2)), (GREEN, Tile(1, 0, 2, 2)), (BLUE, Tile(0, 1, 2, 2)))
        for peer in (red, green, blue):
            for colour, tile in corners:
                await peer.sees(colour, tile)
        for peer in (red, green, blue):
            for other in (red, green, blue):
                await peer.hears(other.hertz, present=other is not peer)
        report = await stage.bridge.report(MEETING)
        assert {encoder.codec for encoder in report.encoders} == {"H264", "VP8"}
        assert len(report.encoders) == 2, "mode 0 and mode 1 share an encoder"
        assert set(report.speakers) == {"red", "green", "blue"}
        assert report.worker_pid == os.getpid()
        incoming = {(leg.participant_id, leg.kind): leg for leg in report.legs if not leg.outgoing}
        picture = incoming["green", SectionKind.VIDEO]
        assert (picture.codec, picture.width, picture.height) == ("VP8", 320, 180)
        assert picture.packets > 0
        assert picture.lost == 0
        level = incoming["red", SectionKind.AUDIO].level_dbov
        assert level is not None
        assert -30 < level < -10
        wires = {wire.participant_id: wire for wire in report.wires}
        assert all(0 < wire.peak_sent_second * 8 <= FULL.to_site_bps for wire in wires.values())
    assert any(isinstance(event, SpeakersChanged) for event in stage.events)


async def test_calls_out(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        offer = await stage.bridge.offer(stage.spec("green"), Dialled.PLAIN)
        assert [s.kind for s in offer.sections] == [SectionKind.AUDIO, SectionKind.VIDEO, SectionKind.SLIDES]
        stage.bridge._conferences[MEETING].participants["green"]._expected_since -= 60  # it rang for long
        ours = await stage.bridge.answered("green", green.offer())
        green.answered(ours)
        await green.sees(RED, LEFT)
        await green.hears(440.0)
        await red.hears(900.0)
        assert not [event for event in stage.events if isinstance(event, ParticipantSilent)]
        with pytest.raises(Refusal) as refused:
            await stage.bridge.offer(stage.spec("page"), Dialled.WEBRTC)
        assert refused.value.kind is RefusalKind.BAD_DESCRIPTION


async def test_a_called_peer_that_sends_the_second_of_its_codecs_is_seen_and_heard(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        await stage.bridge.offer(stage.spec("green"), Dialled.PLAIN)
        audio, video = green.offer().sections
        audio = replace(audio, codecs=(CodecDescription("PCMU", 0, 8_000), *audio.codecs))
        video = replace(video, codecs=(H263, *video.codecs))
        answer = MediaDescription((audio, video))
        green.answered(await stage.bridge.answered("green", answer))
        await red.sees(GREEN, RIGHT)
        await red.hears(900.0)
        report = await stage.bridge.report(MEETING)
        codecs = {(leg.kind, leg.outgoing): leg.codec for leg in report.legs if leg.participant_id == "green"}
        assert codecs == {
            (SectionKind.AUDIO, False): "PCMA",
            (SectionKind.AUDIO, True): "PCMU",
            (SectionKind.VIDEO, False): "H264",
            (SectionKind.VIDEO, True): "H263",
        }


async def test_dropped_ports_are_free_at_once(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red:
        answer = await stage.join("red", red)
        await stage.bridge.drop("red")
        await stage.bridge.drop("red")
        for section in answer.sections:
            socket = RtpSocket.open(
                NobodyListening(), bind="127.0.0.1", ports=PortRange(section.port, section.port + 1)
            )
            socket.close()
        with pytest.raises(Refusal) as refused:
            await stage.bridge.renegotiate("red", red.offer())
        assert refused.value.kind is RefusalKind.UNKNOWN_PARTICIPANT


async def test_what_a_description_may_say_never_stops_the_clock(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("green", green)
        offer = red.offer()
        last = MediaDescription(tuple(replace(s, port=65_535) for s in offer.sections))
        named = MediaDescription(tuple(replace(s, address="room.example") for s in offer.sections))
        for number, description in enumerate((last, named)):
            await stage.bridge.admit(stage.spec(f"odd-{number}"), description)
        red.answered(await stage.bridge.admit(stage.spec("named"), named))
        await red.hears(900.0)  # from where it sends is where it is
        assert stage.bridge.failed_turns == 0
        await green.more_pictures()


async def test_a_fault_in_one_meeting_is_not_anothers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.bridge.open(ConferenceSpec("other", "2000", "Another", View()))

    def broken(now: float, wall_clock: float) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(stage.bridge._conferences["other"], "poll", broken)
    async with stage.pair() as (_, green):
        await green.sees(RED, LEFT)
        assert stage.bridge.failed_turns > 5


async def test_a_late_ticker_lets_others_have_the_loop(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    conference = stage.bridge._conferences[MEETING]
    monkeypatch.setattr(conference, "poll", lambda now, wall_clock: time.sleep(0.03))
    longest, last = 0.0, time.monotonic()
    end = last + 2.5
    while last < end:
        await asyncio.sleep(0)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert longest < 0.4, f"the loop was held for {longest:.2f} s by turns of 0.03 s"
    assert stage.bridge._scope.restarts == 0


def inside(stage: Stage) -> tuple[int, ...]:
    """What a bridge holds for participants."""
    conference = stage.bridge._conferences[MEETING]
    picture, sound = conference.picture, conference.sound
    composers = [screen.composer for screen in picture._screens.values()]
    return (
        len(conference.participants),
        len(stage.bridge._places),
        len(picture._seating.names)
        + len(picture._senders)
        + len(picture._decoders)
        + len(picture._forwardings),
        sum(len(composer._pictures) + len(composer._names) for composer in composers),
        len(sound._sources) + len(sound._listening) + len(sound.mixer._sources) + len(sound.mixer._listeners),
        len(stage.bridge._pacing._scheduled),
        len(conference._closing) + len(picture._closing),
    )


async def test_thirty_comings_and_goings_leave_nothing_behind(stage: Stage) -> None:
    async with RtpPeer(GREEN, 900.0, stage.peer_ports) as green, RtpPeer(RED, 440.0, stage.peer_ports) as red:
        await stage.join("green", green)
        await stage.join("red-warm", red)
        await green.sees(RED, RIGHT)
        await stage.bridge.drop("red-warm")
        await until_true(lambda: stage.bridge._pool.lanes == 3, "compose, encode, decode of one", 5.0)
        await settle(stage)
        before = counted()
        holds = inside(stage)
        for number in range(30):
            name = f"red-{number}"
            await stage.join(name, red)
            if number % 3 == 0:
                await stage.bridge.set_view(MEETING, full_screen(name))
            if number % 5 == 0:
                await until_true(lambda: green.shows(RED, RIGHT) or green.shows(RED), "red", 5.0)
            else:
                await asyncio.sleep(0.03)
            await stage.bridge.drop(name)
            await stage.bridge.set_view(MEETING, View())
        await until_true(lambda: stage.bridge._pool.lanes == 3, "the lanes of one", 5.0)
        await settle(stage)
        assert inside(stage) == holds
        after = counted()
        assert after["threads"] == before["threads"]
        assert after["files"] == before["files"]
        assert after["tasks"] <= before["tasks"], [task.get_name() for task in asyncio.all_tasks()]
        await green.sees(GREEN)


async def settle(stage: Stage) -> None:
    conference = stage.bridge._conferences[MEETING]
    await until_true(
        lambda: not conference._closing and not conference.picture._closing, "what closes to be closed", 5.0
    )
    await until_true(lambda: not stage.bridge._pacing._scheduled, "the pacer to rest", 5.0)
    gc.collect()


def counted() -> dict[str, int]:
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
    }


async def test_a_closed_bridge_leaves_no_thread_task_or_port(access: MediaAccess, block: PortBlock) -> None:
    await asyncio.get_running_loop().run_in_executor(None, gc.collect)  # the loop's own thread is there
    before = counted()
    first = block.take(40, even=True)
    async with RtpPeer(RED, 440.0, PortRange(first, first + 39)) as red:
        with_peer = counted()
        async with Bridge(settings(), access, lambda event: None) as bridge:
            stage = Stage(access, PortRange(first, first + 39), bridge)
            await bridge.open(ConferenceSpec(MEETING, "1000", "A meeting", View()))
            await stage.join("red", red)
            await red.sees(RED)
            assert bridge._pool.lanes == 3
        assert bridge._pool.lanes == 0
        await asyncio.sleep(0)
        assert counted() == with_peer
    assert counted()["files"] == before["files"]
