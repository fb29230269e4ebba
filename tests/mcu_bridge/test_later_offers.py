"""Later offers over loopback: hold, refresh, other ports, other codecs, new keys; what is muted stays so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from foundation.desks import Direction, MediaDescription, Refusal, RefusalKind, SectionKind
from foundation.events import ParticipantSilent
from tests.mcu_bridge.conftest import LEFT, RIGHT, Stage
from tests.mcu_bridge.rtp_peer import GREEN, OPUS, RED, VP8, RtpPeer
from tests.peers.waiting import until_true


async def test_hold_and_resume(stage: Stage) -> None:
    async with stage.pair() as (red, green):
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
    async with stage.pair() as (red, green):
        await red.hears(900.0)
        answer = await stage.bridge.renegotiate("red", red.offer(Direction.SENDONLY, address="0.0.0.0"))
        assert {section.direction for section in answer.sections} == {Direction.RECVONLY}
        await green.hears(440.0)
        red.answered(await stage.bridge.renegotiate("red", red.offer()))
        await red.hears(900.0)


async def test_a_refresh_that_changes_nothing_is_not_heard(stage: Stage) -> None:
    async with stage.pair() as (red, green):
        first = stage.answers["red"]
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
    async with stage.pair() as (red, green):
        first = stage.answers["red"]
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
        red._footage = tuple(RtpPeer(RED, 440.0, stage.peer_ports, video=VP8)._footage)
        await red.sees(GREEN, RIGHT)
        await green.hears(440.0)
        await red.hears(900.0)


async def test_a_refused_offer_leaves_the_session_as_it_was(stage: Stage) -> None:
    async with stage.pair() as (red, green):
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
    async with stage.pair(secure=True) as (red, green):
        first = stage.answers["red"]
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
    async with stage.pair() as (red, green):
        await green.hears(440.0)
        await stage.bridge.set_muted("red", True)
        await green.hears(440.0, present=False)
        red.answered(await stage.bridge.renegotiate("red", red.offer()))  # a refresh does not unmute
        await asyncio.sleep(0.3)
        await green.hears(440.0, present=False)
        await stage.bridge.set_muted("red", False)
        await green.hears(440.0)
