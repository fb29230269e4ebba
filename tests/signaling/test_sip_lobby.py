"""Callers of the general number: shown what to key in, keyed in by either kind of key, limited."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from foundation.clock import FakeClock
from foundation.desks import Refusal, RefusalKind
from foundation.passwords import Passwords
from protocols.sip.message import Request, Response
from signaling import dial_plan, lobby_room
from signaling.lobby_room import LOBBY as ROOM
from signaling.sip_lobby import AGAIN_PROMPT, NUMBER_PROMPT, PIN_PROMPT
from signaling.sip_service import SipService
from tests.peers.waiting import until, until_true
from tests.signaling.house import OURS, House
from tests.signaling.recording_desk import RecordingDesk
from tests.signaling.sip_raw import ANSWER, OFFER, RawPeer, inside
from tests.signaling.switchboard import loopback_is, switchboard

pytestmark = pytest.mark.asyncio
LOBBY = "8000"
EVENTS = OFFER.replace(b"AVP 8", b"AVP 8 101") + b"a=rtpmap:101 telephone-event/8000\r\n"
SECURED = OFFER.replace(b"RTP/AVP", b"RTP/SAVP") + (
    b"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
)


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    house.meeting.pin_hash = await passwords.hash("4711")
    async with switchboard(house, clock, passwords, free=10, lobby_number=LOBBY) as service:
        yield service


class Caller(RawPeer):
    """Dials the general number and presses keys."""

    def __init__(self, service: SipService) -> None:
        super().__init__(service.endpoint)
        self.answer: Response
        self.number = 1

    async def dial(self, offer: bytes = EVENTS) -> Response:
        to = {"To": f"<sip:{LOBBY}@127.0.0.1>", "uri": f"sip:{LOBBY}@127.0.0.1"}
        self.send(self.compose("INVITE", offer, **to))
        self.answer = await self.response()
        if self.answer.status == 200:
            self.send(inside(self, self.answer, "ACK", 1))
        return self.answer

    async def press(self, keys: str) -> None:
        for key in keys:
            self.number += 1
            body = f"Signal={key}\r\nDuration=160\r\n".encode()
            info = inside(self, self.answer, "INFO", self.number, body)
            headers = info.headers.replacing("Content-Type", "application/dtmf-relay")
            self.send(Request("INFO", info.uri, headers, body))
            while True:  # a BYE or INVITE of ours may cross it
                message = await self.next()
                if isinstance(message, Response):
                    assert message.status == 200
                    break
                self.crossed = message

    async def enters(self) -> None:
        again = await self.request("INVITE")
        self.reply(again, 200, ANSWER)
        await self.request("ACK")


def worker(house: House) -> RecordingDesk:
    return house.desks["media-0"]


def prompts(house: House) -> list[str]:
    """What those who wait are shown now."""
    return [
        text
        for conference_id, spec in worker(house).conferences.items()
        if conference_id.startswith(ROOM)
        for text in spec.staging.prompts.values()
    ]


async def shows(house: House, *texts: str) -> None:
    await until_true(lambda: prompts(house) == list(texts), f"the texts {texts}", 3.0)


def touch(service: SipService, house: House, keys: str) -> None:
    """Keys as the worker tells them from the media of the only caller."""
    (visitor_id,) = [key for key in worker(house).participants if key in service.lobby._visitors]
    for key in keys:
        service.lobby.pressed(visitor_id, key)


async def members(house: House, count: int) -> None:
    async def inside_now() -> int:
        return len([m for m in house.meeting.members.values() if m.media is not None])

    await until(inside_now, lambda found: found == count, "the caller to be in", 3.0, interval=0.01)


async def test_a_stranger_with_the_pin_is_put_into_the_meeting(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        answer = await caller.dial()
        assert re.search(rb"m=audio 40000 RTP/AVP 8\r", answer.body), "answered by a worker"
        assert not house.meeting.members
        assert prompts(house) == [NUMBER_PROMPT.text]
        await caller.press("8001#")
        await shows(house, PIN_PROMPT.text)
        await caller.press("4711#")
        await caller.enters()
        await members(house, 1)
        await shows(house)
        (member,) = house.meeting.members.values()
        assert (member.caller.site_id, member.caller.name) == (None, "Peer")
        caller.send(inside(caller, caller.answer, "BYE", 99))
        await caller.response(200)
        await members(house, 0)


async def said(house: House, *sounds: str) -> None:
    """Wait until these were played, and to the caller alone."""

    def played() -> list[str]:
        found = []
        for call in worker(house).named("announce"):
            assert isinstance(call, tuple)
            conference_id, sound, listener = call
            assert conference_id == f"{ROOM}media-0"
            assert listener is not None
            found.append(str(sound))
        return found

    await until_true(lambda: played() == list(sounds), f"the prompts {sounds}", 3.0)


async def test_a_caller_is_told_what_it_is_shown(
    service: SipService, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        await said(house, "lobby-number")
        await caller.press("8001#")
        await said(house, "lobby-number", "lobby-pin")
        await caller.press("0000#")
        await said(house, "lobby-number", "lobby-pin", "lobby-again")
        monkeypatch.setattr(lobby_room, "SAID_AGAIN", 0.05)
        await caller.press("8001#")
        await until_true(lambda: len(worker(house).named("announce")) > 6, "the prompt once more", 3.0)
        caller.send(inside(caller, caller.answer, "BYE", 99))
        await caller.response(200)
        await until_true(lambda: not len(service.lobby), "nobody to wait", 3.0)
        told = len(worker(house).named("announce"))
        await asyncio.sleep(0.2)
        assert len(worker(house).named("announce")) == told, "who is gone is told nothing"


async def test_without_a_file_it_is_the_chime(service: SipService, house: House) -> None:
    worker(house).failures["announce"] = Refusal(RefusalKind.UNKNOWN_ANNOUNCEMENT, "there is none")
    async with Caller(service) as caller:
        await caller.dial()
        await said(house, "lobby-number", lobby_room.CHIME)
        await caller.press("8001#")  # and nothing else of the call suffers
        await shows(house, PIN_PROMPT.text)


async def test_a_site_needs_no_pin(service: SipService, house: House) -> None:
    await loopback_is(house, "nanning")
    async with Caller(service) as caller:
        await caller.dial()
        await caller.press("80*8001#")
        await caller.enters()
        await members(house, 1)
        (member,) = house.meeting.members.values()
        assert member.caller.site_id == "nanning"


async def test_three_wrong_tries_end_the_call(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        await caller.press("8001#0000#9999#4711#")
        await caller.press("8001#0001")
        caller.number += 1
        last = inside(caller, caller.answer, "INFO", caller.number, b"#")
        headers = last.headers.replacing("Content-Type", "application/dtmf")
        caller.send(Request("INFO", last.uri, headers, b"#"))
        bye = await caller.request("BYE")
        assert bye.headers.get("Reason") == 'SIP;cause=403;text="No such meeting, or wrong PIN"'
        caller.reply(bye, 200)
        assert not house.meeting.members


async def test_whoever_keys_in_nothing_is_let_go(
    service: SipService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_plan, "PATIENCE", 0.2)
    async with Caller(service) as caller:
        await caller.dial()
        bye = await caller.request("BYE")
        assert bye.headers.get("Reason") == 'SIP;cause=408;text="No meeting number came"'
        caller.reply(bye, 200)


async def test_a_terminal_that_refuses_the_media_may_try_again(service: SipService, house: House) -> None:
    await loopback_is(house, "nanning")
    async with Caller(service) as caller:
        await caller.dial()
        await caller.press("8001#")
        caller.reply(await caller.request("INVITE"), 488)
        await caller.request("ACK")
        await caller.press("8001#")
        await caller.enters()
        await members(house, 1)


async def test_keys_in_the_media_count_as_those_by_info(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        touch(service, house, "8001#4711")
        await shows(house, PIN_PROMPT.text)
        await caller.press("4711#")  # the same keys once more, by a terminal that sends both
        touch(service, house, "#")
        await caller.enters()
        await members(house, 1)


async def test_a_wrong_entry_is_told_and_may_be_made_again(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        touch(service, house, "9999#0000#")
        await shows(house, AGAIN_PROMPT.text)
        touch(service, house, "8001#")
        await shows(house, PIN_PROMPT.text)


async def test_a_caller_without_an_offer_is_made_one(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        to = {"To": f"<sip:{LOBBY}@127.0.0.1>", "uri": f"sip:{LOBBY}@127.0.0.1"}
        caller.send(caller.compose("INVITE", **to))
        caller.answer = await caller.response(200)
        assert b"m=audio 40000" in caller.answer.body
        ack = inside(caller, caller.answer, "ACK", 1, ANSWER)
        caller.send(Request("ACK", ack.uri, ack.headers.having(("Content-Type", "application/sdp")), ANSWER))
        await until_true(lambda: bool(worker(house).named("answered")), "the answer at the worker", 3.0)
        touch(service, house, "8001#4711#")
        await caller.enters()
        await members(house, 1)


async def test_media_are_agreed_anew_in_mid_call(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        caller.number += 1
        caller.send(inside(caller, caller.answer, "INVITE", caller.number, SECURED))
        await caller.response(200)
        caller.send(inside(caller, caller.answer, "ACK", caller.number))
        assert len(worker(house).named("renegotiate")) == 1


async def test_a_lost_worker_loses_no_caller(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        house.workers.became_ready("media-1", 101)
        house.workers.became_lost("media-0")
        await service.lobby.worker_lost("media-0")
        other = house.desks["media-1"]
        (visitor_id,) = other.participants
        assert other.resumed[visitor_id] == OURS
        service.lobby.pressed(visitor_id, "8")
        house.workers.became_lost("media-1")
        await service.lobby.worker_lost("media-1")
        bye = await caller.request("BYE")
        assert bye.headers.get("Reason") == 'SIP;cause=503;text="The media were lost"'
        caller.reply(bye, 200)


async def test_the_room_is_closed_behind_the_last_caller(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        assert list(worker(house).conferences) == ["lobby:media-0"]
        caller.send(inside(caller, caller.answer, "BYE", 99))
        await caller.response(200)
        await until_true(lambda: not worker(house).conferences, "the room to be closed", 3.0)
        assert len(service.lobby) == 0


async def test_a_worker_that_refuses_is_the_callers_answer(service: SipService, house: House) -> None:
    worker(house).failures["admit"] = Refusal(RefusalKind.NO_COMMON_CODEC, "no codec in common")
    async with Caller(service) as caller:
        assert (await caller.dial()).status == 488
    assert len(service.lobby) == 0


@pytest.mark.parametrize(
    ("offer", "status"),
    [(b"v=1\r\n", 400)],
)
async def test_what_cannot_be_read(service: SipService, offer: bytes, status: int) -> None:
    async with Caller(service) as caller:
        assert (await caller.dial(offer)).status == status
