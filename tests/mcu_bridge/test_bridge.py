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
    Budget,
    ConferenceSpec,
    Dialled,
    Direction,
    MediaDescription,
    Refusal,
    RefusalKind,
    SectionKind,
    View,
    ViewMode,
)
from foundation.events import FastUpdateWanted, ParticipantHeard, ParticipantSilent, SpeakersChanged
from mcu_bridge import conference as conference_module
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge
from media.rtp_socket import PortRange, RtpSocket
from media.transport import NobodyListening
from protocols.payloads.h264 import split_byte_stream
from tests.mcu_bridge.conftest import FULL, MEETING, Stage, settings
from tests.mcu_bridge.rtp_peer import (
    BLUE,
    GREEN,
    H264_MODE_0,
    OPUS,
    RED,
    VP8,
    YELLOW,
    RtpPeer,
    Tile,
)
from tests.peers.ports import PortBlock
from tests.peers.waiting import until, until_true

LEFT, RIGHT = Tile(0, 0, 2, 1), Tile(1, 0, 2, 1)


def full_screen(name: str) -> View:
    return View(ViewMode.FULL_SCREEN, name)


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


async def test_a_full_screen_site_is_forwarded_untouched_and_nothing_is_encoded(stage: Stage) -> None:
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports) as red, RtpPeer(GREEN, 1000.0, ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
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
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports) as red, RtpPeer(GREEN, 1000.0, ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
        await stage.bridge.set_view(MEETING, full_screen("red"))
        await green.sees(RED)
        await stage.bridge.drop("red")
        await green.sees(GREEN)
        assert "mosaic" in await stage.feed("green")


async def test_a_source_whose_leg_is_made_anew_is_forwarded_again(stage: Stage) -> None:
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports) as red, RtpPeer(GREEN, 1000.0, ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
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
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports) as red, RtpPeer(GREEN, 1000.0, ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
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


async def test_hold_and_resume(stage: Stage) -> None:
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports) as red, RtpPeer(GREEN, 1000.0, ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
        await red.sees(GREEN, RIGHT)
        await green.hears(440.0)
        held = await stage.bridge.renegotiate("red", red.offer(Direction.INACTIVE))
        assert {section.direction for section in held.sections} == {Direction.INACTIVE}
        await green.hears(440.0, present=False)
        await until_true(lambda: not green.shows(RED, LEFT), "red's tile without its picture", 4.0)
        seen = red.pictures
        await asyncio.sleep(0.3)
        assert red.pictures <= seen + 1, "who holds is sent nothing"
        red.answered(await stage.bridge.renegotiate("red", red.offer()))
        await green.hears(440.0)
        await green.sees(RED, LEFT)
        await red.more_pictures()
        assert not [event for event in stage.events if isinstance(event, ParticipantSilent)]


async def test_a_hold_in_the_old_manner_sends_nothing_to_this_machine(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
        await red.hears(900.0)
        answer = await stage.bridge.renegotiate("red", red.offer(Direction.SENDONLY, address="0.0.0.0"))
        assert {section.direction for section in answer.sections} == {Direction.RECVONLY}
        await green.hears(440.0)
        red.answered(await stage.bridge.renegotiate("red", red.offer()))
        await red.hears(900.0)


async def test_a_refresh_that_changes_nothing_is_not_heard(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        first = await stage.join("red", red)
        await stage.join("green", green)
        await green.hears(440.0)
        again = await stage.bridge.renegotiate("red", red.offer())
        assert again == first
        await asyncio.sleep(0.5)
        gaps = silent_frames(green)
        assert gaps == 0, f"{gaps} silent frames of 20 ms in a steady tone"


def silent_frames(peer: RtpPeer) -> int:
    """Silent 20 ms in what was heard last."""
    samples = peer.sound.samples
    frames = samples[: len(samples) // 960 * 960].reshape(-1, 960)
    return int((abs(frames).max(axis=1) < 0.01).sum())


async def test_other_ports_and_other_codecs_by_a_later_offer(stage: Stage) -> None:
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports) as red, RtpPeer(GREEN, 900.0, ports) as green:
        first = await stage.join("red", red)
        await stage.join("green", green)
        await red.sees(GREEN, RIGHT)
        red.move()
        moved = await stage.bridge.renegotiate("red", red.offer())
        red.answered(moved)
        assert [s.port for s in moved.sections] == [s.port for s in first.sections]
        red.latest = None
        await red.sees(GREEN, RIGHT)
        await green.hears(440.0)
        red.change(audio=OPUS, video=VP8)
        answer = await stage.bridge.renegotiate("red", red.offer())
        red.answered(answer)
        assert [s.codecs[0].name for s in answer.sections] == ["OPUS", "VP8"]
        red.latest = None
        red._footage = tuple(RtpPeer(RED, 440.0, ports, video=VP8)._footage)
        await red.sees(GREEN, RIGHT)
        await green.hears(440.0)
        await red.hears(900.0)


async def test_a_refused_offer_leaves_the_session_as_it_was(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
        await red.sees(GREEN, RIGHT)
        offer = red.offer()
        strange = tuple(replace(s, codecs=(replace(s.codecs[0], name="SIREN"),)) for s in offer.sections)
        for sections in (strange, tuple(replace(s, protocol="RTP/SAVP") for s in offer.sections)):
            with pytest.raises(Refusal) as refused:
                await stage.bridge.renegotiate("red", MediaDescription(sections))
            assert refused.value.kind is RefusalKind.NO_COMMON_CODEC
        await red.more_pictures()
        await green.sees(RED, LEFT)
        await green.hears(440.0)


async def test_srtp_goes_on_over_a_refresh_and_over_new_keys(stage: Stage) -> None:
    ports = stage.peer_ports
    async with RtpPeer(RED, 440.0, ports, secure=True) as red, RtpPeer(GREEN, 900.0, ports) as green:
        first = await stage.join("red", red)
        await stage.join("green", green)
        await green.hears(440.0)
        await red.hears(900.0)
        assert first.sections[0].crypto[0].key != red.keys[SectionKind.AUDIO].inline()
        again = await stage.bridge.renegotiate("red", red.offer())
        assert [s.crypto for s in again.sections] == [s.crypto for s in first.sections]
        pictures = red.pictures
        await until_true(lambda: red.pictures > pictures + 5, "pictures after a refresh", 4.0)
        ours = {kind: socket._srtp for kind, socket in red._sockets.items()}
        rekeyed = await stage.bridge.renegotiate("red", red.offer(rekey=True))
        assert [s.crypto for s in rekeyed.sections] == [s.crypto for s in first.sections]
        red.answered(rekeyed)
        for kind, socket in red._sockets.items():  # the bridge's own sending goes on where it was
            before, after = ours[kind], socket._srtp
            assert before is not None
            assert after is not None
            after.unprotect, after.unprotect_rtcp = before.unprotect, before.unprotect_rtcp
        await green.hears(440.0)
        pictures = red.pictures
        await until_true(lambda: red.pictures > pictures + 5, "pictures after new keys", 4.0)
        plain = MediaDescription(
            tuple(replace(s, protocol="RTP/AVP", crypto=()) for s in red.offer().sections)
        )
        answer = await stage.bridge.renegotiate("red", plain)
        for socket in red._sockets.values():
            socket.secure(None)
        red.answered(answer)
        assert all(not section.crypto for section in answer.sections)
        pictures = red.pictures
        await until_true(lambda: red.pictures > pictures + 5, "pictures without keys", 4.0)


async def test_mute(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
        await green.hears(440.0)
        await stage.bridge.set_muted("red", True)
        await green.hears(440.0, present=False)
        red.answered(await stage.bridge.renegotiate("red", red.offer()))  # a refresh does not unmute
        await asyncio.sleep(0.3)
        await green.hears(440.0, present=False)
        await stage.bridge.set_muted("red", False)
        await green.hears(440.0)


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


async def test_the_same_ports_on_another_bridge(access: MediaAccess, block: PortBlock, stage: Stage) -> None:
    """What another worker does when one is lost; the peers notice a pause."""
    ports = stage.peer_ports
    async with (
        RtpPeer(RED, 440.0, ports, secure=True) as red,
        RtpPeer(GREEN, 900.0, ports) as green,
    ):
        first = await stage.join("red", red)
        await stage.bridge.offer(stage.spec("green"), Dialled.PLAIN)
        theirs = green.offer()
        dialled = await stage.bridge.answered("green", theirs)
        green.answered(dialled)
        await red.sees(GREEN, RIGHT)
        offered = red.offer()
        await stage.bridge.close(MEETING)
        async with Bridge(settings(), access, lambda event: None) as other:
            await other.open(ConferenceSpec(MEETING, "1000", "A meeting", View()))
            for _ in range(2):  # asked again after a lost answer, it takes its own ports again
                again = await other.admit(stage.spec("red"), offered, resume=first)
                await other.resume_dialled(stage.spec("green"), dialled, theirs)
            assert [(s.port, s.crypto) for s in again.sections] == [
                (s.port, s.crypto) for s in first.sections
            ]
            red.answered(again)
            red.latest = green.latest = None
            await red.sees(GREEN, RIGHT)
            await green.sees(RED, LEFT)
            await red.hears(900.0)
            await green.hears(440.0)
            with pytest.raises(Refusal) as refused:
                await other.admit(stage.spec("third"), offered, resume=first)
            assert refused.value.kind is RefusalKind.NOT_RESUMABLE
            assert "third" not in other._places


async def test_a_secure_peer_past_two_roll_overs_is_taken_up(access: MediaAccess, stage: Stage) -> None:
    """RFC 3711 3.3.1: nobody tells another worker the peer's rollover counters, nor the peer ours."""
    async with (
        RtpPeer(RED, 440.0, stage.peer_ports, secure=True) as red,
        RtpPeer(GREEN, 900.0, stage.peer_ports) as green,
    ):
        first = await stage.join("red", red)
        theirs = await stage.join("green", green)
        await green.sees(RED, LEFT)
        offers = red.offer(), green.offer()
        await stage.bridge.close(MEETING)
        red.roll_over(2)
        red.latest = green.latest = None
        async with Bridge(settings(), access, lambda event: None) as other:
            await other.open(ConferenceSpec(MEETING, "1000", "A meeting", View()))
            again = await other.admit(stage.spec("red"), offers[0], resume=first)
            await other.admit(stage.spec("green"), offers[1], resume=theirs)
            assert [s.crypto for s in again.sections] == [s.crypto for s in first.sections]
            await green.sees(RED, LEFT)
            await red.sees(GREEN, RIGHT)
            await green.hears(440.0)
            await red.hears(900.0)


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


async def test_silence_is_told_and_told_again_and_so_is_its_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conference_module, "SILENT_AFTER", 0.6)
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red:
        await stage.join("red", red)
        await red.more_pictures(2)
        stage.events.clear()
        red.sending = False

        def silences() -> list[ParticipantSilent]:
            return [event for event in stage.events if isinstance(event, ParticipantSilent)]

        await until_true(lambda: len(silences()) >= 2, "a second word of silence", 5.0)
        assert silences()[0].participant_id == "red"
        assert silences()[0].seconds > 0.5
        red.sending = True
        heard = ParticipantHeard(MEETING, "red")
        await until_true(lambda: heard in stage.events, "to be heard again", 3.0)


async def test_a_picture_that_stops_leaves_its_tile_and_comes_back_by_a_key_frame(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu_bridge.picture_leg.STALE_AFTER", 0.8)
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
        await green.sees(RED, LEFT)
        red.sending_picture = False
        await until_true(lambda: not green.shows(RED, LEFT), "the tile to be cleared", 4.0)
        asked = red.keyframe_requests
        red._footage = tuple(frame for frame in red._footage if not frame[1]) + red._footage[:1]
        red.sending_picture = True
        await until_true(lambda: red.keyframe_requests > asked, "a request for a key frame", 3.0)
        await green.sees(RED, LEFT)


async def test_without_feedback_the_key_frame_is_asked_by_signalling(stage: Stage) -> None:
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red:
        deaf = tuple(
            replace(s, codecs=tuple(replace(c, feedback=()) for c in s.codecs)) for s in red.offer().sections
        )
        red._footage = red._footage[1:]  # never a key frame
        await stage.join("red", red, offer=MediaDescription(deaf))
        wanted = FastUpdateWanted(MEETING, "red")
        await until_true(lambda: wanted in stage.events, "FastUpdateWanted", 4.0)


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
    async with RtpPeer(RED, 440.0, stage.peer_ports) as red, RtpPeer(GREEN, 900.0, stage.peer_ports) as green:
        await stage.join("red", red)
        await stage.join("green", green)
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
