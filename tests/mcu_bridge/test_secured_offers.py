"""SRTP in offers of our own (RFC 4568): two participants call one another, as we and a terminal would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foundation.desks import (
    Budget,
    MediaDescription,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    SectionKind,
)
from mcu_bridge.access import MediaAccess
from mcu_bridge.participant import LegListeners, Participant
from mcu_bridge.plain_transports import OFFERED_SUITES, addresses
from media.pacer import PacingClock
from tests.mcu_bridge.test_participant import offer
from tests.peers.waiting import until_true

SILENCE = b"\xd5" * 160


class Side:
    """A participant of its own meeting, and what it hears."""

    def __init__(
        self, name: str, access: MediaAccess, clock: PacingClock, *, sound_only: bool = True
    ) -> None:
        self.heard: list[bytes] = []
        listeners = LegListeners(
            lambda _who, payload, _lost: self.heard.append(payload),
            lambda: None,
            lambda _who, _event: None,
            lambda _who: None,
        )
        budget = Budget(1_000_000, 1_000_000)
        spec = ParticipantSpec(name, "meeting", name, "lan", budget, sound_only=sound_only)
        self.participant = Participant(spec, access, clock, listeners, asyncio.get_running_loop())

    def say(self, payload: bytes) -> None:
        leg = self.participant.sound
        assert leg is not None
        now = time.monotonic()
        for index in range(4):
            leg.send_sound(payload, index, now, now)


@pytest.fixture
async def sides(access: MediaAccess) -> AsyncIterator[tuple[Side, Side]]:
    clock = PacingClock()
    ours, theirs = Side("ours", access, clock), Side("theirs", access, clock)
    yield ours, theirs
    await ours.participant.aclose()
    await theirs.participant.aclose()
    clock.close()


async def hears(side: Side, payload: bytes) -> None:
    await until_true(lambda: payload in side.heard, "the sound", 3.0)


async def test_an_offer_has_keys_and_the_answers_choice_is_used(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    offered = ours.participant.offer(secured=True)
    (audio,) = offered.sections
    assert audio.protocol == "RTP/SAVP"
    assert [(key.tag, key.suite) for key in audio.crypto] == list(enumerate(OFFERED_SUITES, 1))
    assert len({key.key for key in audio.crypto}) == 3
    answer = theirs.participant.admit(offered, None)
    agreed = ours.participant.answered(answer)
    assert agreed.sections[0].crypto == (audio.crypto[0],)
    ours.say(b"\x11" * 160)
    theirs.say(b"\x22" * 160)
    await hears(theirs, b"\x11" * 160)
    await hears(ours, b"\x22" * 160)


async def test_another_of_the_keys_may_be_chosen(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    offered = ours.participant.offer(secured=True)
    (audio,) = offered.sections
    last = replace(offered, sections=(replace(audio, crypto=audio.crypto[-1:]),))
    agreed = ours.participant.answered(theirs.participant.admit(last, None))
    assert agreed.sections[0].crypto == audio.crypto[-1:]
    theirs.say(SILENCE)
    await hears(ours, SILENCE)


async def test_a_call_is_taken_up_with_the_keys_of_its_descriptions(
    sides: tuple[Side, Side], access: MediaAccess
) -> None:
    ours, theirs = sides
    answer = theirs.participant.admit(ours.participant.offer(secured=True), None)
    agreed = ours.participant.answered(answer)
    ours.participant.close()
    clock = PacingClock()
    again = Side("ours", access, clock)
    again.participant.resume_dialled(agreed, answer)
    theirs.say(SILENCE)
    await hears(again, SILENCE)
    await again.participant.aclose()
    clock.close()


async def test_an_answer_with_a_key_to_nothing_offered_is_refused(sides: tuple[Side, Side]) -> None:
    ours, theirs = sides
    offered = ours.participant.offer(secured=True)
    answer = theirs.participant.admit(offered, None)
    (audio,) = answer.sections
    for crypto in ((), (replace(audio.crypto[0], tag=9),), (replace(audio.crypto[0], suite="AES_256"),)):
        with pytest.raises(Refusal) as refused:
            ours.participant.answered(MediaDescription((replace(audio, crypto=crypto),)))
        assert refused.value.kind is RefusalKind.BAD_DESCRIPTION


async def test_the_same_offer_without_keys_is_plain(sides: tuple[Side, Side]) -> None:
    """What a peer that refused the keys is offered next."""
    ours, theirs = sides
    (audio,) = ours.participant.offer(secured=True).sections
    bare = MediaDescription((replace(audio, protocol="RTP/AVP", crypto=()),))
    (agreed,) = ours.participant.answered(theirs.participant.admit(bare, None)).sections
    assert (agreed.protocol, agreed.crypto) == ("RTP/AVP", ())
    theirs.say(SILENCE)
    await hears(ours, SILENCE)


async def test_a_telephone_is_neither_offered_nor_answered_pictures(sides: tuple[Side, Side]) -> None:
    ours, _theirs = sides
    assert [section.kind for section in ours.participant.offer().sections] == [SectionKind.AUDIO]
    answer = ours.participant.admit(offer(), None)
    assert [bool(section.port) for section in answer.sections] == [True, False]
    with pytest.raises(Refusal):
        ours.participant.admit(MediaDescription(offer().sections[1:]), None)


def test_rtcp_goes_where_its_attribute_says() -> None:
    section = replace(offer().sections[0], rtcp_port=7001, rtcp_address="192.0.2.99")
    assert addresses(section) == (("192.0.2.1", 5004), ("192.0.2.99", 7001))
    for nowhere in ("0.0.0.0", "rtcp.example.com", None):
        assert addresses(replace(section, rtcp_address=nowhere))[1] == ("192.0.2.1", 7001)
    assert addresses(replace(section, rtcp_mux=True))[1] == ("192.0.2.1", 7001)
