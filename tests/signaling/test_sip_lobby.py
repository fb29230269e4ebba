"""Callers of the general number: keyed into a meeting by INFO, limited, held until then."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from protocols.sip.message import Request, Response
from signaling import dial_plan
from signaling.sip_service import SipService
from tests.peers.waiting import until
from tests.signaling.house import House
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


async def members(house: House, count: int) -> None:
    async def inside_now() -> int:
        return len([m for m in house.meeting.members.values() if m.media is not None])

    await until(inside_now, lambda found: found == count, "the caller to be in", 3.0, interval=0.01)


async def test_a_stranger_with_the_pin_is_put_into_the_meeting(service: SipService, house: House) -> None:
    async with Caller(service) as caller:
        answer = await caller.dial()
        assert b"a=inactive" in answer.body
        assert re.search(rb"m=audio [1-9]\d* RTP/AVP 8\r", answer.body), "held, and without telephone events"
        assert not house.meeting.members
        await caller.press("8001#4711#")
        await caller.enters()
        await members(house, 1)
        (member,) = house.meeting.members.values()
        assert (member.caller.site_id, member.caller.name) == (None, "Peer")
        caller.send(inside(caller, caller.answer, "BYE", 99))
        await caller.response(200)
        await members(house, 0)


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


async def test_a_held_call_may_be_held_anew(service: SipService) -> None:
    async with Caller(service) as caller:
        await caller.dial()
        caller.number += 1
        caller.send(inside(caller, caller.answer, "INVITE", caller.number, SECURED))
        answer = await caller.response(200)
        assert b"RTP/SAVP" in answer.body
        assert re.search(rb"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:[A-Za-z0-9+/]{40}\r", answer.body)
        caller.send(inside(caller, caller.answer, "ACK", caller.number))


@pytest.mark.parametrize(
    ("offer", "status"),
    [(b"", 488), (OFFER.replace(b"m=audio 4000", b"m=audio 0"), 488), (b"v=1\r\n", 400)],
)
async def test_what_cannot_be_held(service: SipService, offer: bytes, status: int) -> None:
    async with Caller(service) as caller:
        assert (await caller.dial(offer)).status == status
