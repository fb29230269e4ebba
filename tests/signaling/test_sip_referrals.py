"""REFER inside a call: into another meeting, somebody else into this one, and all that is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from foundation.clock import FakeClock
from foundation.desks import Refusal, RefusalKind
from foundation.passwords import Passwords
from protocols.sip.message import Request, Response
from signaling.meeting import Meeting, MemberState
from signaling.sip_service import SipService
from tests.peers.waiting import until
from tests.signaling.house import House
from tests.signaling.sip_raw import ANSWER, OFFER, RawPeer, inside
from tests.signaling.switchboard import REALM, SignedPeer, loopback_is, switchboard

pytestmark = pytest.mark.asyncio


class Terminal(RawPeer):
    """A room that is in a meeting, and asks things there."""

    def __init__(self, service: SipService) -> None:
        super().__init__(service.endpoint)
        self.answer: Response
        self.number = 1

    async def dial(self, user: str = "8001") -> None:
        call = {"To": f"<sip:{user}@127.0.0.1>", "Call_ID": f"call-{self.port}"}
        self.send(
            self.compose("INVITE", OFFER, branch=f"z9hG4bK{self.port}", uri=f"sip:{user}@127.0.0.1", **call)
        )
        self.answer = await self.response(200)
        self.send(inside(self, self.answer, "ACK", 1, Call_ID=f"call-{self.port}"))

    def refer(self, target: str, **fields: str) -> None:
        self.number += 1
        call = {"Call_ID": f"call-{self.port}", "Refer_To": target, **fields}
        self.send(inside(self, self.answer, "REFER", self.number, b"", **call))

    async def progress(self) -> tuple[str, str, str]:
        """The next NOTIFY, answered: its event, its state, its fragment."""
        notify = await self.request("NOTIFY")
        self.reply(notify, 200)
        headers = notify.headers
        assert headers.get("Content-Type") == "message/sipfrag;version=2.0"
        state = headers.get("Subscription-State") or ""
        return headers.get("Event") or "", state, notify.body.decode().strip()


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with switchboard(house, clock, passwords) as service:
        yield service


@pytest.fixture
async def other(house: House) -> Meeting:
    return await house.meetings.open("另一个", "nation", number="8002")


def sdp_port(message: Request | Response) -> str:
    found = re.search(rb"m=audio (\d+)", message.body)
    assert found is not None
    return found[1].decode()


async def test_a_terminal_moves_to_another_meeting(service: SipService, house: House, other: Meeting) -> None:
    await loopback_is(house, "nanning")
    async with Terminal(service) as room:
        await room.dial()
        (before,) = house.meeting.members.values()
        room.refer("<sip:8002@127.0.0.1>")
        accepted = await room.response(202)
        assert accepted.contact is not None
        assert await room.progress() == ("refer", "active;expires=60", "SIP/2.0 100 Trying")
        again = await room.request("INVITE")
        assert again.to.tag == "p1", "the same call, other media"
        room.reply(again, 200, ANSWER)
        await room.request("ACK")
        assert await room.progress() == ("refer", "terminated;reason=noresource", "SIP/2.0 200 OK")
        (after,) = other.members.values()
        assert not house.meeting.members
        assert (after.caller.site_id, after.state) == ("nanning", MemberState.CONNECTED)
        assert await house.reason(before.participant_id) == "moved to meeting 8002"
        assert (await house.record(after.participant_id)).dialog is not None
        room.refer(f"<sip:8001@{REALM}>")
        await room.response(202)
        assert (await room.progress())[0] == "refer;id=3", "a second referral of the dialog has an id"
        room.reply(await room.request("INVITE"), 200, ANSWER)
        await room.request("ACK")
        assert (await room.progress())[2] == "SIP/2.0 200 OK"
        assert not other.members
        room.number += 1
        room.send(inside(room, room.answer, "BYE", room.number, Call_ID=f"call-{room.port}"))
        await room.response(200)
        await gone(house)


async def gone(house: House) -> None:
    async def members() -> int:
        return len(house.meeting.members)

    await until(members, lambda count: count == 0, "the room to be out", 3.0, interval=0.01)


@pytest.mark.parametrize("why", ["unknown", "full", "declined"])
async def test_whoever_cannot_move_stays(service: SipService, house: House, other: Meeting, why: str) -> None:
    await loopback_is(house, "nanning")
    async with Terminal(service) as room:
        await room.dial()
        (member,) = house.meeting.members.values()
        if why == "full":
            house.desk.failures["admit"] = Refusal(RefusalKind.NO_CAPACITY, "the processor is busy")
            house.desks["media-1"].failures["admit"] = house.desk.failures["admit"]
        room.refer("<sip:9999@127.0.0.1>" if why == "unknown" else "<sip:8002@127.0.0.1>")
        await room.response(202)
        assert (await room.progress())[2] == "SIP/2.0 100 Trying"
        if why == "declined":
            room.reply(await room.request("INVITE"), 488)
        expected = {
            "unknown": "SIP/2.0 404 Not Found",
            "full": "SIP/2.0 503 the processor is busy",
            "declined": "SIP/2.0 503 the terminal refused the other meeting's media",
        }
        assert (await room.progress())[1:] == ("terminated;reason=noresource", expected[why])
        assert list(house.meeting.members.values()) == [member]
        assert member.state is MemberState.CONNECTED
        assert not other.members


async def test_a_guest_needs_the_other_meetings_pin(
    service: SipService, house: House, other: Meeting, passwords: Passwords
) -> None:
    house.meeting.pin_hash = await passwords.hash("4711")
    other.pin_hash = await passwords.hash("2222")
    async with Terminal(service) as guest:
        await guest.dial("8001*4711")
        for pin, fragment in (("", "403 A guest"), ("*4711", "403 Wrong"), ("*2222", "200 OK")):
            guest.refer(f"<sip:8002{pin}@127.0.0.1>", Refer_Sub="true")
            await guest.response(202)
            await guest.progress()
            if pin == "*2222":
                guest.reply(await guest.request("INVITE"), 200, ANSWER)
                await guest.request("ACK")
            assert (await guest.progress())[2].startswith(f"SIP/2.0 {fragment}")
        (member,) = other.members.values()
        assert member.caller.site_id is None


async def test_the_hosts_terminal_calls_somebody_in(service: SipService, house: House) -> None:
    await loopback_is(house, "nation")
    async with Terminal(service) as chair, RawPeer(service.endpoint) as third:
        await chair.dial()
        chair.refer(f"刘 <sip:third@127.0.0.1:{third.port}>")
        await chair.response(202)
        await chair.progress()
        invite = await third.request("INVITE")
        third.reply(invite, 200, ANSWER)
        await third.request("ACK")
        assert (await chair.progress())[2] == "SIP/2.0 200 OK"
        assert sorted(member.caller.name for member in house.meeting.members.values()) == ["刘", "国家"]
        chair.refer(f"<sip:third@127.0.0.1:{third.port}>", Refer_Sub="false")
        assert (await chair.response(202)).headers.get("Refer-Sub") == "false"
        third.reply(await third.request("INVITE"), 486)
        await chair.silence(0.1)
        assert len(house.meeting.members) == 2


async def test_what_is_refused(service: SipService, house: House) -> None:
    await loopback_is(house, "nanning")
    async with Terminal(service) as room, SignedPeer(service) as outside:
        await room.dial()
        for target, status in (
            ("<sip:friend@192.0.2.7>", 403),
            ("<sip:8002@127.0.0.1;method=BYE>", 603),
            ("<sip:a@127.0.0.1?Replaces=x>", 603),
            ("<tel:+861>", 603),
            ("<sip:a@h>, <sip:b@h>", 400),
        ):
            room.refer(target)
            assert (await room.response()).status == status, target
        assert (await outside.ask("REFER", Refer_To="<sip:8001@127.0.0.1>")).status == 403
        gone = outside._request("REFER", b"", {"To": "<sip:8001@127.0.0.1>;tag=no", "Refer-To": "<sip:a@h>"})
        outside.send(gone)
        assert (await outside.response()).status == 481
        assert (await outside.ask("NOTIFY", Event="refer")).status == 481
        room.refer(f"<sip:nanning-room@{REALM}>")
        await room.response(202)
        await room.progress()
        assert (await room.progress())[2] == "SIP/2.0 403 Forbidden", "an account is somebody else, too"
        assert len(house.meeting.members) == 1


async def test_norefersub_and_the_methods_are_told(service: SipService) -> None:
    async with SignedPeer(service) as peer:
        options = await peer.ask("OPTIONS")
        assert {"refer", "notify", "register"} <= options.headers.tokens("Allow")
        assert "norefersub" in options.headers.tokens("Supported")
