"""BFCP in SIP calls as they go over the wire: INVITE, re-INVITE with and without offer, REFER, our calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from foundation.tasks import TaskScope
from protocols.bfcp.attributes import RequestState
from protocols.bfcp.message import Primitive
from protocols.sip.message import Response
from signaling.bfcp_listener import BfcpSettings
from signaling.bfcp_service import BfcpService
from signaling.meeting import MemberState
from signaling.sip_service import SipService
from tests.peers.waiting import until_true
from tests.signaling.floors.bfcp_peer import BfcpPeer, state_of
from tests.signaling.floors.floor_stage import FLOOR, GROUP_STYLE, floor_lines
from tests.signaling.house import House
from tests.signaling.sip_raw import RawPeer, inside
from tests.signaling.switchboard import loopback_is, switchboard

OFFER = GROUP_STYLE.replace("\n", "\r\n").encode()


@pytest.fixture
async def house(house: House) -> House:
    await loopback_is(house, "nanning")
    return house


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with TaskScope("bfcp") as scope, switchboard(house, clock, passwords) as service:
        bfcp = BfcpService([BfcpSettings("lo", "127.0.0.1", 0, 0)], house.meetings.floors)
        await bfcp.start(scope)
        yield service
        await bfcp.aclose()


class Terminal(RawPeer):
    """A room terminal with BFCP in its SDP."""

    def __init__(self, service: SipService) -> None:
        super().__init__(service.endpoint)
        self.answer: Response
        self.number = 1

    @property
    def call(self) -> str:
        return f"call-{self.port}"

    async def dial(self, body: bytes = OFFER) -> None:
        self.send(self.compose("INVITE", body, branch=f"z9hG4bK{self.port}", Call_ID=self.call))
        self.answer = await self.response(200)
        self.acknowledge()

    def acknowledge(self, body: bytes = b"") -> None:
        self.send(inside(self, self.answer, "ACK", self.number, body, Call_ID=self.call))

    async def reinvite(self, body: bytes) -> Response:
        self.number += 1
        self.send(inside(self, self.answer, "INVITE", self.number, body, Call_ID=self.call))
        return await self.response(200)


def lines(message: bytes) -> list[str]:
    return floor_lines(message.decode())


async def presents(sdp: bytes) -> None:
    """Take the floor as our SDP says."""
    told = dict(line[2:].partition(":")[::2] for line in lines(sdp)[1:])
    port = int(lines(sdp)[0].split()[1])
    peer = await BfcpPeer.over(port, int(told["confid"]), int(told["userid"]))
    try:
        assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR))[1] == RequestState.GRANTED
    finally:
        peer.close()


async def test_a_call_keeps_its_floor_through_offers_of_both_sides(service: SipService, house: House) -> None:
    async with Terminal(service) as room:
        await room.dial()
        first = lines(room.answer.body)
        assert first[0].endswith("UDP/BFCP *")
        assert "a=floorid:1 mstrm:3" in first
        again = await room.reinvite(OFFER.replace(b"o=- 1715 1", b"o=- 1715 2"))
        room.acknowledge()
        assert lines(again.body) == first
        ours = await room.reinvite(b"")  # we offer, with the m-lines where they were
        assert lines(ours.body) == first
        assert ours.body.count(b"m=") == 4
        room.acknowledge(OFFER.replace(b"o=- 1715 1", b"o=- 1715 3").replace(b"c-s", b"c-only"))
        await presents(ours.body)
        (member,) = house.meeting.members.values()
        assert house.meeting.control.slides == member.participant_id


async def test_a_terminal_that_moves_has_the_other_meetings_floor(service: SipService, house: House) -> None:
    other = await house.meetings.open("另一个", "nation", number="8002")
    async with Terminal(service) as room:
        await room.dial()
        await presents(room.answer.body)
        room.number += 1
        refer = {"Call_ID": room.call, "Refer_To": "<sip:8002@127.0.0.1>", "Refer_Sub": "false"}
        room.send(inside(room, room.answer, "REFER", room.number, b"", **refer))
        await room.response(202)
        moved = await room.request("INVITE")
        assert lines(moved.body)[0] == lines(room.answer.body)[0]
        assert lines(moved.body)[2:4] != lines(room.answer.body)[2:4], "other ids"
        room.reply(moved, 200, OFFER.replace(b"o=- 1715 1", b"o=- 1715 2").replace(b"c-s", b"c-only"))
        await room.request("ACK")
        await until_true(lambda: not house.meeting.members, "the room to be out of the first", 5)
        await until_true(lambda: house.meeting.control.slides is None, "its slides to end there", 5)
        await presents(moved.body)
        (member,) = other.members.values()
        assert other.control.slides == member.participant_id


async def test_a_called_terminal_takes_the_floor_that_it_was_offered(
    service: SipService, house: House
) -> None:
    async with Terminal(service) as room:
        address = f"sip:room@127.0.0.1:{room.port}"
        await service.calls.dial(house.meeting.conference_id, address, "nanning", None)
        invite = await room.request("INVITE")
        assert lines(invite.body)[0].endswith("UDP/BFCP *")
        assert invite.body.count(b"m=") == 4
        answer = invite.body.replace(b"s-only", b"c-only")
        room.reply(invite, 200, answer)
        await room.request("ACK")
        (member,) = house.meeting.members.values()
        await until_true(lambda: member.state is MemberState.CONNECTED, "the room to be in", 5)
        await presents(invite.body)
        assert house.meeting.control.slides == member.participant_id


async def test_a_called_terminal_without_bfcp_refuses_it_and_is_in(service: SipService, house: House) -> None:
    async with Terminal(service) as room:
        address = f"sip:room@127.0.0.1:{room.port}"
        await service.calls.dial(house.meeting.conference_id, address, "nanning", None)
        invite = await room.request("INVITE")
        head = lines(invite.body)[0].encode()
        refused = invite.body.partition(b"m=application")[0] + b"m=application 0 UDP/BFCP *\r\n"
        assert head not in refused
        room.reply(invite, 200, refused)
        await room.request("ACK")
        (member,) = house.meeting.members.values()
        await until_true(lambda: member.state is MemberState.CONNECTED, "the room to be in", 5)
        assert (member.floor, member.has_slides) == (None, True)
