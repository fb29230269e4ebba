"""What another worker does when one is lost: the same ports, keys and descriptions; peers notice a pause."""

from __future__ import annotations

import pytest

from foundation.desks import ConferenceSpec, Dialled, Refusal, RefusalKind, View
from mcu_bridge.access import MediaAccess
from mcu_bridge.bridge import Bridge
from tests.mcu_bridge.conftest import LEFT, MEETING, RIGHT, Stage, settings
from tests.mcu_bridge.rtp_peer import GREEN, RED, RtpPeer
from tests.peers.ports import PortBlock


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
    async with stage.pair(secure=True) as (red, green):
        first = stage.answers["red"]
        theirs = stage.answers["green"]
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
