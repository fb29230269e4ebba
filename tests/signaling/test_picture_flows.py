"""Who heeds b= only: lowered and raised by re-INVITE, over the wire, with offers of others in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import ConferenceReport, LegReport, MediaDescription, SectionKind
from foundation.events import PictureFlowWanted
from foundation.passwords import Passwords
from protocols.sip.message import Request, Response
from signaling import picture_flows
from signaling.media_description import read_sdp
from signaling.picture_flows import PictureFlowCounters
from signaling.sip_line import SipLine
from signaling.sip_service import SipService
from tests.peers.waiting import until_true
from tests.signaling.floors.floor_stage import MirrorDesk
from tests.signaling.house import House
from tests.signaling.sip_raw import RawPeer, inside
from tests.signaling.switchboard import loopback_is, switchboard

OWN, TRICKLE = 1_000_000, 64_000
HEAD = (
    b"v=0\r\no=- 1715 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"
)
CAMERA = b"m=video 5002 RTP/AVP 97 98\r\na=rtpmap:97 H264/90000\r\na=rtpmap:98 H263-1998/90000\r\n"
SLIDES = b"m=video 5004 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=content:slides\r\n"
OFFER = HEAD + CAMERA
ANSWER = HEAD + CAMERA.replace(b" 98\r\na=rtpmap:97", b"\r\na=rtpmap:97").partition(b"a=rtpmap:98")[0]
QUIET = 0.4
"""Seconds in which nothing is to come."""


class PictureDesk(MirrorDesk):
    """Takes the first codec of each medium, and has so much room for a picture; `held` is what it reports."""

    held: frozenset[str] = frozenset()

    def _mirrored(self, offer: MediaDescription) -> MediaDescription:
        answer = super()._mirrored(offer)
        room = {SectionKind.VIDEO: OWN, SectionKind.SLIDES: OWN // 2}
        sections = tuple(
            replace(s, codecs=s.codecs[:1], bandwidth_bps=room.get(s.kind), direction=s.direction.reversed)
            for s in answer.sections
        )
        return replace(answer, sections=sections, bandwidth_bps=1_400_000)

    async def report(self, conference_id: str) -> ConferenceReport:
        legs = tuple(
            LegReport(
                participant,
                SectionKind.VIDEO,
                False,
                "H264",
                0,
                0,
                0,
                0.0,
                None,
                0,
                granted_bps=TRICKLE if participant in self.held else OWN,
                held=participant in self.held,
            )
            for participant in self.participants
        )
        return ConferenceReport(conference_id, 1, legs=legs)


@pytest.fixture
async def house(database: Database, clock: FakeClock) -> House:
    house = House(database, clock, PictureDesk)
    await house.meetings.worker_ready("media-0", 100)
    house.meeting = await house.meetings.open("演练", "nation", number="8001")
    await loopback_is(house, "nanning")
    return house


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    async with switchboard(house, clock, passwords, flow_networks=["lo"]) as service:
        yield service


class Room(RawPeer):
    """An old room terminal: it reads b=, and nothing of RTCP."""

    def __init__(self, service: SipService, house: House) -> None:
        super().__init__(service.endpoint)
        self.service, self.house = service, house
        self.number = 1
        self.said: Response
        self._seen: set[str | None] = set()

    @property
    def call(self) -> str:
        return f"call-{self.port}"

    async def dial(self, offer: bytes = OFFER) -> None:
        self.send(self.compose("INVITE", offer, branch=f"z9hG4bK{self.port}", Call_ID=self.call))
        self.said = await self.response(200)
        self.send(inside(self, self.said, "ACK", 1, Call_ID=self.call))
        await until_true(lambda: isinstance(self.line, SipLine), "the line to be there", 5)

    @property
    def line(self) -> SipLine | None:
        line = next((member.line for member in self.house.meeting.members.values()), None)
        return line if isinstance(line, SipLine) else None

    @property
    def participant(self) -> str:
        (participant,) = self.house.meeting.members
        return participant

    def want(self, bitrate: int, *, held: bool) -> None:
        """What the worker announces."""
        meeting = self.house.meeting.conference_id
        self.house.bus.publish(PictureFlowWanted(meeting, self.participant, bitrate, held))

    async def request(self, method: str) -> Request:
        """The next one that is no repetition."""
        while True:
            request = await super().request(method)
            branch = request.via.parameters.get("branch")
            if branch not in self._seen or method == "ACK":
                self._seen.add(branch)
                return request

    async def offered(self, answer: bytes = ANSWER) -> Request:
        """The next re-INVITE, accepted."""
        invite = await self.request("INVITE")
        self.reply(invite, 200, answer)
        await self.request("ACK")
        return invite

    async def reinvites(self, offer: bytes) -> bytes:
        """Our answer to an offer of its own."""
        self.number += 1
        self.send(inside(self, self.said, "INVITE", self.number, offer, Call_ID=self.call))
        answer = await self.response(200)
        self.send(inside(self, answer, "ACK", self.number, Call_ID=self.call))
        return answer.body

    async def no_reinvite(self) -> None:
        await self.silence(QUIET)


def rates(sdp: bytes) -> tuple[int | None, ...]:
    """b= of the session, then of each medium."""
    said = read_sdp(sdp)
    return said.bandwidth_bps, *(section.bandwidth_bps for section in said.sections)


def version(sdp: bytes) -> int:
    return int(next(line for line in sdp.splitlines() if line.startswith(b"o=")).split()[2])


async def counted(service: SipService, **wanted: int) -> None:
    counts = PictureFlowCounters(**wanted)
    await until_true(
        lambda: service.flows.counters == counts, f"{wanted}", 5, lambda: str(service.flows.counters)
    )


async def test_an_unseen_picture_is_lowered_and_raised_before_it_is_shown(
    service: SipService, house: House
) -> None:
    async with Room(service, house) as room:
        await room.dial()
        assert rates(room.said.body) == (1_400_000, None, OWN)
        room.want(TRICKLE, held=True)
        down = await room.offered()
        assert rates(down.body) == (1_400_000, None, TRICKLE)
        assert version(down.body) == version(room.said.body) + 1
        assert (
            down.body.replace(b"b=AS:64\r\n", b"b=AS:1000\r\n").partition(b"s=")[2]
            == (room.said.body.partition(b"s=")[2])
        ), "nothing else is another"
        room.want(OWN, held=False)
        up = await room.offered()
        assert rates(up.body) == (1_400_000, None, OWN)
        assert version(up.body) == version(down.body) + 1
        await counted(service, lowered=1, raised=1)
        assert house.desk.named("renegotiate") == [], "the terminal's side is what it was"
        room.want(OWN, held=False)
        await room.no_reinvite()


async def test_where_the_network_does_not_say_so_nobody_is_asked(
    house: House, clock: FakeClock, passwords: Passwords
) -> None:
    async with switchboard(house, clock, passwords) as service, Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.no_reinvite()
        assert rates(await room.reinvites(OFFER + SLIDES)) == (1_400_000, None, OWN, OWN // 2)


async def test_slides_in_between_keep_the_trickle(service: SipService, house: House) -> None:
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.offered()
        answer = await room.reinvites(OFFER + SLIDES)
        assert rates(answer) == (1_400_000, None, TRICKLE, OWN // 2)
        room.want(OWN, held=False)
        up = await room.offered(ANSWER + SLIDES)
        assert rates(up.body) == (1_400_000, None, OWN, OWN // 2)


async def test_an_offer_of_the_terminals_brings_it_along_while_the_next_has_to_wait(
    service: SipService, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_flows, "LOWER_SPACING", 60.0)
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.offered()
        room.want(OWN, held=False)
        await room.offered()
        room.want(TRICKLE, held=True)
        await room.no_reinvite()
        assert rates(await room.reinvites(OFFER)) == (1_400_000, None, TRICKLE)
        room.want(TRICKLE, held=True)
        await room.no_reinvite()
        room.want(OWN, held=False)  # up at once, however short ago
        assert rates((await room.offered()).body) == (1_400_000, None, OWN)
        await counted(service, lowered=1, raised=2)


async def test_down_goes_once_in_a_while_only(
    service: SipService, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_flows, "LOWER_SPACING", 1.0)
    loop = asyncio.get_running_loop()
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.offered()
        first = loop.time()
        room.want(OWN, held=False)
        await room.offered()
        room.want(TRICKLE, held=True)
        again = await room.offered()
        assert rates(again.body) == (1_400_000, None, TRICKLE)
        assert loop.time() - first > 0.9


async def test_what_is_no_longer_wanted_when_its_turn_comes_is_not_said(
    service: SipService, house: House
) -> None:
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        glare = await room.request("INVITE")
        room.want(OWN, held=False)
        room.reply(glare, 491)
        await room.request("ACK")
        await until_true(lambda: not service.flows._tasks, "the flow to be done", 5)
        await room.no_reinvite()
        await counted(service)


async def test_glare_is_waited_out(service: SipService, house: House) -> None:
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        glare = await room.request("INVITE")
        room.reply(glare, 491)
        again = await room.offered()
        assert (again.cseq.number, rates(again.body)) == (glare.cseq.number + 1, rates(glare.body))
        await counted(service, lowered=1)


async def test_who_refuses_is_left_alone(service: SipService, house: House) -> None:
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        room.reply(await room.request("INVITE"), 488)
        await room.request("ACK")
        await counted(service, refused=1)
        room.want(OWN, held=False)
        room.want(TRICKLE, held=True)
        await room.no_reinvite()
        assert rates(await room.reinvites(OFFER)) == (1_400_000, None, OWN), "no trickle by the way either"
        await counted(service, refused=1)


async def test_a_refused_raise_is_asked_for_again(
    service: SipService, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_flows, "RAISE_AGAIN", 0.05)
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.offered()
        room.want(OWN, held=False)
        for _turn in range(2):
            room.reply(await room.request("INVITE"), 500)
            await room.request("ACK")
        assert rates((await room.offered()).body) == (1_400_000, None, OWN)
        await counted(service, lowered=1, raised=1, refused=2)


async def test_a_word_that_was_lost_is_made_up_for(
    house: House, clock: FakeClock, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_flows, "LOOK_AGAIN", 0.1)
    desk = house.desks["media-0"]
    assert isinstance(desk, PictureDesk)
    async with (
        switchboard(house, clock, passwords, flow_networks=["lo"]) as service,
        Room(service, house) as room,
    ):
        await room.dial()
        desk.held = frozenset({room.participant})
        room.want(TRICKLE, held=True)
        await room.offered()
        await room.no_reinvite()
        desk.held = frozenset()  # shown: and nobody heard the event
        assert rates((await room.offered()).body) == (1_400_000, None, OWN)
        assert room.line is not None
        assert room.line.session.picture_bps is None


async def test_a_share_for_slides_is_told_and_withdrawn(service: SipService, house: House) -> None:
    """While it presents, its camera may have less: shown all the same."""
    async with Room(service, house) as room:
        await room.dial(OFFER + SLIDES)
        room.want(OWN * 4 // 10, held=False)
        assert rates((await room.offered(ANSWER + SLIDES)).body) == (1_400_000, None, 416_000, OWN // 2)
        room.want(OWN * 97 // 100, held=False)
        assert rates((await room.offered(ANSWER + SLIDES)).body) == (1_400_000, None, OWN, OWN // 2)


async def test_what_the_terminal_changes_by_the_way_is_the_workers_to_know(
    service: SipService, house: House
) -> None:
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.offered(ANSWER.replace(b"5002", b"6002"))
        await until_true(lambda: len(house.desk.named("renegotiate")) == 1, "the worker to be told", 5)
        (member,) = house.meeting.members.values()
        assert member.media is not None
        assert member.media.theirs.sections[1].port == 6002


async def test_a_terminal_on_hold_is_not_taken_off_it(service: SipService, house: House) -> None:
    async with Room(service, house) as room:
        await room.dial(OFFER + b"a=sendonly\r\n")
        room.want(TRICKLE, held=True)
        down = await room.offered(ANSWER + b"a=sendonly\r\n")
        assert down.body.count(b"a=recvonly") == 1
        assert house.desk.named("renegotiate") == []


async def test_one_who_moves_takes_no_trickle_along(service: SipService, house: House) -> None:
    await house.meetings.open("另一个", "nation", number="8002")
    async with Room(service, house) as room:
        await room.dial()
        room.want(TRICKLE, held=True)
        await room.offered()
        refer = {"Call_ID": room.call, "Refer_To": "<sip:8002@127.0.0.1>", "Refer_Sub": "false"}
        room.send(inside(room, room.said, "REFER", 2, b"", **refer))
        await room.response(202)
        assert rates((await room.offered()).body) == (1_400_000, None, OWN)
