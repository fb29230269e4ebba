"""Who shows slides: terminals by BFCP over datagrams and streams, byte for byte; pages and operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.desks import Dialled, MediaDescription, ParticipantSpec, SectionKind, Staging
from foundation.repositories.audit import AuditRepository
from foundation.tasks import TaskScope
from protocols.bfcp import floor_control_server
from protocols.bfcp.attributes import AttributeType, ErrorCode, ErrorReason, Number, RequestState
from protocols.bfcp.message import Message, Primitive, parse
from protocols.sdp import SessionDescription
from signaling import bfcp_listener as bfcp_listener_module
from signaling import floors as floors_module
from signaling.bfcp_listener import BfcpLimits, BfcpSettings
from signaling.bfcp_service import BfcpService
from signaling.control.orders import Command, NotNow, Order
from signaling.media_description import read_sdp, write_sdp
from signaling.meeting import Access, Caller, Member
from tests.peers.waiting import until, until_true
from tests.signaling.bfcp_peer import BfcpPeer, state_of
from tests.signaling.house import House
from tests.signaling.recording_desk import RecordingDesk, RecordingLine

FLOOR = Number(AttributeType.FLOOR_ID, 1)

GROUP_STYLE = """v=0
o=- 1715 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 49152 RTP/AVP 8
m=video 49154 RTP/AVP 109
a=rtpmap:109 H264/90000
a=content:main
m=application 3238 UDP/BFCP *
a=floorctrl:c-s
a=setup:actpass
a=connection:new
m=video 49158 RTP/AVP 109
a=rtpmap:109 H264/90000
a=content:slides
a=label:3
"""
ENDPOINT_STYLE = """v=0
o=- 1715 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 16448 RTP/AVP 8
m=video 16450 RTP/AVP 97
a=rtpmap:97 H264/90000
a=label:11
m=application 5070 UDP/BFCP *
a=floorctrl:c-only s-only
a=confid:1
a=userid:7
a=floorid:2 m-stream:12
m=video 16452 RTP/AVP 97
a=rtpmap:97 H264/90000
a=label:12
"""
STREAM_STYLE = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 10002 RTP/AVP 8
m=video 10004 RTP/AVP 106
a=rtpmap:106 H264/90000
m=video 10006 RTP/AVP 106
a=rtpmap:106 H264/90000
m=application 9 TCP/BFCP *
a=floorctrl:c-only
a=setup:active
a=connection:new
"""
BROWSER = "\r\n".join(
    [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1 2",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901",
        "a=fingerprint:sha-256 AA:BB",
        "a=setup:actpass",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=rtpmap:111 opus/48000/2",
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=rtpmap:96 H264/90000",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 0.0.0.0",
        "a=mid:2",
        "a=bundle-only",
        "a=rtpmap:96 H264/90000",
        "",
    ]
)


class MirrorDesk(RecordingDesk):
    """Takes every sound and picture, on ports of its own; BFCP it answers with port 0, as workers do."""

    offered: MediaDescription | None = None
    answered_with: MediaDescription | None = None

    def _mirrored(self, offer: MediaDescription) -> MediaDescription:
        refused = (SectionKind.FLOOR, SectionKind.OTHER)
        sections = tuple(
            replace(s, address="127.0.0.1", port=0 if s.kind in refused or not s.port else 40_000 + 2 * i)
            for i, s in enumerate(offer.sections)
        )
        return replace(offer, sections=sections)

    async def admit(
        self, participant: ParticipantSpec, offer: MediaDescription, resume: MediaDescription | None = None
    ) -> MediaDescription:
        await super().admit(participant, offer, resume)
        return self._mirrored(offer)

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        await super().renegotiate(participant_id, offer)
        return self._mirrored(offer)

    async def offer(self, participant: ParticipantSpec, dialled: Dialled) -> MediaDescription:
        await super().offer(participant, dialled)
        described = self._mirrored(read_sdp(GROUP_STYLE.encode()))
        floorless = tuple(s for s in described.sections if s.kind is not SectionKind.FLOOR)
        self.offered = replace(described, sections=floorless)
        return self.offered

    async def answered(self, participant_id: str, answer: MediaDescription) -> MediaDescription:
        await super().answered(participant_id, answer)
        self.answered_with = answer
        assert self.offered is not None
        return self.offered


class Stage:
    """A meeting whose slides are to be had."""

    def __init__(self, house: House, service: BfcpService) -> None:
        self.house = house
        self.listener = service.listeners["lan"]
        self.peers: list[BfcpPeer] = []

    @property
    def desk(self) -> RecordingDesk:
        return self.house.desk

    @property
    def slides(self) -> str | None:
        return self.house.meeting.control.slides

    async def join(self, name: str, sdp: str = GROUP_STYLE, host: str = "127.0.0.1") -> tuple[Member, str]:
        """A caller, and our answer as it goes out."""
        line = RecordingLine()
        line.peer_host = host
        access = Access.BROWSER if "SAVPF" in sdp else Access.DIALLED_IN
        member, answer = await self.house.meetings.join(
            self.house.meeting.conference_id,
            Caller(name, "guangxi", "lan", f"sip:{name}@127.0.0.1"),
            read_sdp(sdp.replace("IP4 127.0.0.1", f"IP{6 if ':' in host else 4} {host}").encode()),
            access,
            line,
        )
        return member, write_sdp(answer).decode()

    async def peer(self, member: Member, bind: str = "127.0.0.1") -> BfcpPeer:
        """The BFCP of a member, as its SDP told it."""
        seat, address = member.floor, self.listener.address
        assert seat is not None
        port = address.port(seat.reliable)
        assert port is not None
        peer = await BfcpPeer.over(port, seat.conference, seat.user, reliable=seat.reliable, bind=bind)
        self.peers.append(peer)
        return peer

    async def present(self, member: Member) -> None:
        """By the API, as a page does."""
        who = member.participant_id
        order = Order(Command.PRESENT, member.caller.name, who, site=who)
        await self.house.meetings.control.give(member.conference_id, order)

    def told(self) -> list[str | None]:
        """Whose slides the worker was told to show, in order."""
        found = [s[1].slides for s in self.desk.named("set_staging") if isinstance(s, tuple)]
        return [one for i, one in enumerate(found) if not i or found[i - 1] != one]


@asynccontextmanager
async def staged(house: House, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Stage]:
    async with TaskScope("bfcp") as scope:
        service = BfcpService([BfcpSettings("lan", host, port, port)], house.meetings.floors)
        await service.start(scope)
        stage = Stage(house, service)
        try:
            yield stage
        finally:
            for peer in stage.peers:
                peer.close()
            await service.aclose()


@pytest.fixture(autouse=True)
def decided_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a request is answered by its decision; what is pending is tested apart."""
    monkeypatch.setattr(floor_control_server, "PENDING_AFTER", 60.0)


@pytest.fixture
async def house(database: Database, clock: FakeClock) -> House:
    house = House(database, clock, MirrorDesk)
    await house.meetings.worker_ready("media-0", 100)
    house.meeting = await house.meetings.open("演练", "nation", number="8001")
    return house


@pytest.fixture
async def stage(house: House) -> AsyncIterator[Stage]:
    async with staged(house) as stage:
        yield stage


def floor_lines(sdp: str) -> list[str]:
    """The lines of our BFCP section."""
    _, found, rest = sdp.partition("m=application ")
    return [found + line if not i else line for i, line in enumerate(rest.split("m=")[0].splitlines())]


# --- descriptions ------------------------------------------------------------------------------------------


async def test_a_group_terminal_is_told_where_its_floor_is(stage: Stage) -> None:
    member, answer = await stage.join("group")
    seat, address = member.floor, stage.listener.address
    assert seat is not None
    assert floor_lines(answer) == [
        f"m=application {address.udp} UDP/BFCP *",
        "a=floorctrl:s-only",
        f"a=confid:{seat.conference}",
        f"a=userid:{seat.user}",
        "a=floorid:1 mstrm:3",
        "a=bfcpver:2",
    ]
    audio, main, _bfcp, slides = SessionDescription.parse(answer.encode()).media
    assert (main.media, main.value("content"), audio.value("content")) == ("video", "main", None)
    assert (slides.media, slides.value("content"), slides.value("label")) == ("video", "slides", "3")
    worker_knows = member.media.ours.sections[2] if member.media else None
    assert worker_knows is not None
    assert worker_knows.port == 0


async def test_an_endpoint_that_names_its_slides_by_label_keeps_its_label_and_gets_our_ids(
    stage: Stage,
) -> None:
    member, answer = await stage.join("endpoint", ENDPOINT_STYLE)
    assert member.has_slides
    assert "a=floorid:1 mstrm:12" in floor_lines(answer)
    assert "a=confid:1" not in floor_lines(answer)
    *_, slides = SessionDescription.parse(answer.encode()).media
    assert (slides.value("label"), slides.value("content")) == ("12", "slides")


async def test_a_stream_is_one_that_the_peer_opens(stage: Stage) -> None:
    member, answer = await stage.join("stream", STREAM_STYLE)
    assert member.has_slides  # two unnamed pictures beside BFCP: the second is the slides
    lines = floor_lines(answer)
    assert lines[:4] == [
        f"m=application {stage.listener.address.tcp} TCP/BFCP *",
        "a=setup:passive",
        "a=connection:new",
        "a=floorctrl:s-only",
    ]
    assert lines[-2:] == ["a=floorid:1 mstrm:12", "a=bfcpver:1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("floorctrl:c-s", "floorctrl:s-only"),
        ("UDP/BFCP", "TCP/TLS/BFCP"),
        ("UDP/BFCP", "UDP/TLS/BFCP"),
        ("application 3238 UDP/BFCP", "application 0 UDP/BFCP"),
    ],
)
async def test_what_we_cannot_serve_is_refused_with_port_0(stage: Stage, before: str, after: str) -> None:
    member, answer = await stage.join("odd", GROUP_STYLE.replace(before, after))
    assert floor_lines(answer)[0].startswith("m=application 0 ")
    assert member.floor is None
    assert len(SessionDescription.parse(answer.encode()).media) == 4


async def test_bfcp_may_come_before_the_slides(stage: Stage) -> None:
    early = GROUP_STYLE.partition("m=video 49158")[0]
    member, answer = await stage.join("early", early)
    assert floor_lines(answer)[-2:] == ["a=floorid:1", "a=bfcpver:2"]
    peer = await stage.peer(member)
    denied = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert state_of(denied)[1] == RequestState.DENIED
    assert b"no stream for slides" in denied.print()
    later = await stage.house.meetings.renegotiate(member.participant_id, read_sdp(GROUP_STYLE.encode()))
    assert "a=floorid:1 mstrm:3" in floor_lines(write_sdp(later).decode())
    assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR))[1] == RequestState.GRANTED


async def test_slides_that_the_worker_refuses_have_no_floor(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = MirrorDesk._mirrored

    def without(desk: MirrorDesk, offer: MediaDescription) -> MediaDescription:
        ours = mirrored(desk, offer)
        kept = (replace(s, port=0) if s.kind is SectionKind.SLIDES else s for s in ours.sections)
        return replace(ours, sections=tuple(kept))

    monkeypatch.setattr(MirrorDesk, "_mirrored", without)
    member, answer = await stage.join("thin")
    assert floor_lines(answer)[0] == "m=application 0 UDP/BFCP *"
    assert member.floor is None


async def test_a_peer_that_waits_for_us_to_connect_is_refused(stage: Stage) -> None:
    _, answer = await stage.join("waits", STREAM_STYLE.replace("setup:active", "setup:passive"))
    assert floor_lines(answer)[0] == "m=application 0 TCP/BFCP *"


async def test_a_role_may_be_missing_and_a_later_offer_keeps_the_seat(stage: Stage) -> None:
    sdp = GROUP_STYLE.replace("a=floorctrl:c-s\n", "")
    member, answer = await stage.join("plain", sdp)
    again = await stage.house.meetings.renegotiate(member.participant_id, read_sdp(sdp.encode()))
    assert floor_lines(write_sdp(again).decode()) == floor_lines(answer)


async def test_a_later_offer_does_not_forget_where_its_bfcp_was_heard(stage: Stage) -> None:
    member, _ = await stage.join("behind a NAT")
    peer = await stage.peer(member)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await stage.house.meetings.renegotiate(member.participant_id, read_sdp(GROUP_STYLE.encode()))
    await stage.house.give(Command.TAKE_BACK_SLIDES)
    assert state_of(await peer.announced()) == (1, RequestState.REVOKED)


async def test_a_browsers_second_picture_is_its_slides_and_has_no_floor(stage: Stage) -> None:
    member, answer = await stage.join("page", BROWSER)
    assert [s.kind for s in read_sdp(BROWSER.encode()).sections] == [
        SectionKind.AUDIO,
        SectionKind.VIDEO,
        SectionKind.SLIDES,
    ]
    assert member.has_slides
    assert "BFCP" not in answer
    assert "a=content" not in answer
    assert [m.media for m in SessionDescription.parse(answer.encode()).media] == ["audio", "video", "video"]


async def test_our_offer_has_a_floor_and_the_worker_never_hears_of_it(stage: Stage) -> None:
    meetings = stage.house.meetings
    caller = Caller("called", "guangxi", "lan", "sip:called@127.0.0.1")
    member, offer = await meetings.dial(stage.house.meeting.conference_id, caller, Dialled.PLAIN)
    printed = write_sdp(offer).decode()
    assert [m.media for m in SessionDescription.parse(printed.encode()).media] == [
        "audio",
        "video",
        "video",
        "application",
    ]
    assert "a=floorid:1 mstrm:3" in floor_lines(printed)
    answer = printed.replace("s-only", "c-only").replace(
        f"application {stage.listener.address.udp}", "application 3238"
    )
    line = RecordingLine()
    line.peer_host = "127.0.0.1"
    await meetings.answered(member.participant_id, read_sdp(answer.encode()), line)
    desk = stage.desk
    assert isinstance(desk, MirrorDesk)
    assert desk.answered_with is not None
    assert len(desk.answered_with.sections) == 3
    peer = await stage.peer(member)
    granted = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert state_of(granted)[1] == RequestState.GRANTED
    again = meetings.offered_again(member.participant_id)
    assert again is not None
    assert floor_lines(write_sdp(again).decode()) == floor_lines(printed)


# --- bytes -------------------------------------------------------------------------------------------


async def test_literal_bytes_over_datagrams(stage: Stage) -> None:
    member, _ = await stage.join("group")
    seat = member.floor
    assert seat is not None
    ids = seat.conference.to_bytes(4, "big")
    user = seat.user.to_bytes(2, "big")
    peer = await stage.peer(member)
    peer.send(bytes.fromhex("400b 0000") + ids + bytes.fromhex("0001") + user)
    assert await peer.heard() == (
        bytes.fromhex("500c 000a") + ids + bytes.fromhex("0001") + user
        + bytes.fromhex("1713 0102030405060708090a0b0c0d0e0f1011 00")
        + bytes.fromhex("1514 020406080a0c0e10121416181a1c1e202224")
    )  # fmt: skip
    peer.send(bytes.fromhex("4001 0001") + ids + bytes.fromhex("0002") + user + bytes.fromhex("0504 0001"))
    assert await peer.heard() == (
        bytes.fromhex("5004 0004") + ids + bytes.fromhex("0002") + user
        + bytes.fromhex("1f10 0001 2508 0001 0b04 0300 2304 0001")
    )  # fmt: skip
    assert stage.slides == member.participant_id
    peer.send(bytes.fromhex("4002 0001") + ids + bytes.fromhex("0003") + user + bytes.fromhex("0704 0001"))
    assert await peer.heard() == (
        bytes.fromhex("5004 0004") + ids + bytes.fromhex("0003") + user
        + bytes.fromhex("1f10 0001 2508 0001 0b04 0600 2304 0001")
    )  # fmt: skip
    await until_true(lambda: stage.slides is None, "the slides to end", 10)
    await until_true(lambda: stage.told() == [member.participant_id, None], "the worker to hear of it", 10)


async def test_literal_bytes_over_a_stream_split_everywhere_and_pipelined(stage: Stage) -> None:
    member, _ = await stage.join("stream", STREAM_STYLE)
    seat = member.floor
    assert seat is not None
    ids = seat.conference.to_bytes(4, "big")
    user = seat.user.to_bytes(2, "big")
    peer = await stage.peer(member)
    query = bytes.fromhex("2007 0001") + ids + bytes.fromhex("0001") + user + bytes.fromhex("0504 0001")
    request = bytes.fromhex("2001 0001") + ids + bytes.fromhex("0002") + user + bytes.fromhex("0504 0001")
    for byte in query:
        peer.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert await peer.heard() == (
        bytes.fromhex("2008 0001") + ids + bytes.fromhex("0001") + user + bytes.fromhex("0504 0001")
    )
    hello = bytes.fromhex("200b 0000") + ids + bytes.fromhex("0003") + user
    peer.send(request[:7])
    await asyncio.sleep(0.01)
    peer.send(request[7:] + hello[:5])
    await asyncio.sleep(0.01)
    peer.send(hello[5:])
    heard = {parse(data).transaction_id: data for data in [await peer.heard() for _ in range(3)]}
    assert heard[2] == (
        bytes.fromhex("2004 0004") + ids + bytes.fromhex("0002") + user
        + bytes.fromhex("1f10 0001 2508 0001 0b04 0300 2304 0001")
    )  # fmt: skip
    assert heard[3][:4] == bytes.fromhex("200c 000a")
    assert heard[0] == (  # announced to who follows the floor: over a stream transaction 0
        bytes.fromhex("2008 0006") + ids + bytes.fromhex("0000") + user
        + bytes.fromhex("0504 0001 1f14 0001 2508 0001 0b04 0300 2304 0001 1d04") + user
    )  # fmt: skip


async def test_a_request_that_comes_twice_is_one_order(stage: Stage) -> None:
    member, _ = await stage.join("group")
    peer = await stage.peer(member)
    request = peer.bytes_of(Primitive.FLOOR_REQUEST, FLOOR)
    for _ in range(3):
        peer.send(request)
    first = await peer.heard()
    peer.send(request)
    assert await peer.heard() == first
    assert [c.command for c in stage.house.meeting.control.changes] == ["present"]


async def test_what_is_announced_is_sent_again_until_it_is_acknowledged(stage: Stage) -> None:
    member, _ = await stage.join("group")
    peer = await stage.peer(member)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await stage.house.give(Command.TAKE_BACK_SLIDES)
    revoked = await peer.heard()
    assert state_of(parse(revoked)) == (1, RequestState.REVOKED)
    assert await peer.heard() == revoked  # the acknowledgement was lost
    peer.acknowledge(parse(revoked))
    with pytest.raises(TimeoutError):
        await peer.heard(1.2)
    assert stage.slides is None


async def test_a_stranger_who_knows_the_ids_gets_nothing(stage: Stage) -> None:
    for sdp in (GROUP_STYLE, STREAM_STYLE):
        member, _ = await stage.join("group", sdp)
        stranger = await stage.peer(member, bind="127.0.0.9")
        stranger.send(stranger.bytes_of(Primitive.FLOOR_REQUEST, FLOOR))
        owner = await stage.peer(member)
        assert (await owner.ask(Primitive.FLOOR_QUERY, FLOOR)).attributes == (FLOOR,)
        with pytest.raises(TimeoutError):
            await stranger.heard(0.2)
    counters = stage.house.meetings.floors.counters
    await until_true(lambda: counters.strangers == 2, "both strangers to be counted", 10)
    assert stage.slides is None


async def test_wrong_ids_are_named_to_who_takes_part_and_to_nobody_else(stage: Stage) -> None:
    member, _ = await stage.join("group")
    peer = await stage.peer(member)

    def code(message: Message) -> int | None:
        found = message.first(ErrorCode)
        return None if found is None else found.reason

    peer.user ^= 1
    assert code(await peer.ask(Primitive.HELLO)) == ErrorReason.USER_DOES_NOT_EXIST
    peer.conference ^= 1
    assert code(await peer.ask(Primitive.HELLO)) == ErrorReason.CONFERENCE_DOES_NOT_EXIST
    peer.send(b"\x40\x01")  # no message at all
    other = await stage.peer(member, bind="127.0.0.9")
    other.conference ^= 1
    other.send(other.bytes_of(Primitive.HELLO))
    with pytest.raises(TimeoutError):
        await other.heard(0.2)


async def test_a_stream_that_says_nothing_sensible_is_closed(stage: Stage) -> None:
    member, _ = await stage.join("stream", STREAM_STYLE)
    peer = await stage.peer(member)
    peer.send(bytes.fromhex("2001 ffff") + bytes(8))
    with pytest.raises(ConnectionResetError):
        await peer.heard()
    await until_true(lambda: stage.listener.connections == 0, "the connection to be gone", 10)


@pytest.mark.parametrize("sdp", [GROUP_STYLE, STREAM_STYLE])
async def test_floors_are_reached_by_ipv6_too(house: House, sdp: str) -> None:
    async with staged(house, host="::1") as stage:
        member, answer = await stage.join("six", sdp, host="::1")
        assert "c=IN IP6 ::1" in floor_lines(answer)
        peer = await stage.peer(member, bind="::1")
        assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (1, RequestState.GRANTED)


async def test_a_port_in_use_is_named(stage: Stage) -> None:
    address, floors = stage.listener.address, stage.house.meetings.floors
    for udp, tcp in ((address.udp, None), (None, address.tcp)):
        second = BfcpService([BfcpSettings("wan", "127.0.0.1", udp, tcp)], floors)
        async with TaskScope("second") as scope:
            with pytest.raises(OSError, match=rf"BFCP cannot listen on 127.0.0.1 port {udp or tcp} \(wan\)"):
                await second.start(scope)


async def test_one_host_does_not_take_every_connection(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfcp_listener_module, "BfcpLimits", lambda: BfcpLimits(of_one_host=2))
    async with staged(house) as stage:
        member, _ = await stage.join("stream", STREAM_STYLE)
        peers = [await stage.peer(member) for _ in range(3)]
        with pytest.raises(ConnectionError):
            await peers[2].ask(Primitive.HELLO)
        assert (await peers[1].ask(Primitive.HELLO)).primitive == Primitive.HELLO_ACK
        assert stage.listener.counters.connections_refused == 1


# --- orders ------------------------------------------------------------------------------------------


async def test_the_latest_request_has_the_slides_by_whatever_means(stage: Stage) -> None:
    (room, _), (stream, _), (page, _) = [
        await stage.join(name, sdp)
        for name, sdp in (("room", GROUP_STYLE), ("stream", STREAM_STYLE), ("page", BROWSER))
    ]
    udp, tcp = await stage.peer(room), await stage.peer(stream)
    assert state_of(await udp.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (1, RequestState.GRANTED)
    assert state_of(await tcp.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (2, RequestState.GRANTED)
    assert state_of(await udp.announced()) == (1, RequestState.REVOKED)
    await stage.present(page)
    assert state_of(await tcp.announced()) == (2, RequestState.REVOKED)
    status = await udp.ask(Primitive.FLOOR_QUERY, FLOOR)
    assert state_of(status) == (3, RequestState.GRANTED)
    assert stage.slides == page.participant_id
    assert state_of(await udp.ask(Primitive.FLOOR_REQUEST, FLOOR))[1] == RequestState.GRANTED
    assert stage.told() == [m.participant_id for m in (room, stream, page, room)]


async def test_what_terminals_do_with_slides_is_on_record(stage: Stage) -> None:
    member, _ = await stage.join("南宁")
    peer = await stage.peer(member)
    granted = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await peer.ask(Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, state_of(granted)[0]))

    async def audited() -> list[tuple[str, str]]:
        async with stage.house.database.reading() as tx:
            subjects = [f"conference:{member.conference_id}"]
            rows = await AuditRepository(tx).search(subjects=subjects, limit=10)
        return [(row.actor, row.action) for row in rows]

    expected = [("南宁", "stop-presenting"), ("南宁", "present")]
    await until(audited, lambda rows: rows == expected, "both to be on record", 10, 0.03)


async def test_who_may_not_present_is_told_why(stage: Stage) -> None:
    member, _ = await stage.join("room")
    lecturer, _ = await stage.join("lecturer")
    peer = await stage.peer(member)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    await stage.house.give(Command.LECTURE, lecturer.participant_id)
    assert state_of(await peer.announced()) == (1, RequestState.REVOKED)
    denied = await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert state_of(denied) == (2, RequestState.DENIED)
    assert b"only the lecturer presents" in denied.print()
    with pytest.raises(NotNow, match="does not present"):
        await stage.house.give(Command.STOP_PRESENTING, member.participant_id)


async def test_who_leaves_or_loses_its_stream_presents_no_more(stage: Stage) -> None:
    first, _ = await stage.join("first")
    second, _ = await stage.join("second")
    await stage.present(first)
    await stage.house.meetings.leave(first.participant_id, "hung up")
    assert stage.slides is None
    await stage.present(second)
    without = read_sdp(GROUP_STYLE.replace("video 49158", "video 0").encode())
    await stage.house.meetings.renegotiate(second.participant_id, without)
    assert stage.slides is None
    with pytest.raises(NotNow, match="no stream for slides"):
        await stage.present(second)


async def test_a_broken_connection_keeps_the_floor_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, _ = await stage.join("stream", STREAM_STYLE)
    peer = await stage.peer(member)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    peer.close()
    again = await stage.peer(member)  # in time
    assert state_of(await again.ask(Primitive.FLOOR_QUERY, FLOOR)) == (1, RequestState.GRANTED)
    assert stage.slides == member.participant_id
    monkeypatch.setattr(floors_module, "FREE_AFTER", 0.2)
    again.close()
    await until_true(lambda: stage.slides is None, "the floor to be freed", 10)


async def test_a_goodbye_frees_the_floor(stage: Stage) -> None:
    member, _ = await stage.join("room")
    peer = await stage.peer(member)
    await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)
    assert (await peer.ask(Primitive.GOODBYE)).primitive == Primitive.GOODBYE_ACK
    await until_true(lambda: stage.slides is None, "the floor to be freed", 10)


async def test_terminals_go_on_after_a_restart(database: Database, clock: FakeClock, house: House) -> None:
    async with staged(house) as stage:
        holder, _ = await stage.join("holder")
        follower, _ = await stage.join("follower")
        stream, _ = await stage.join("stream", STREAM_STYLE)
        peer, follows = await stage.peer(holder), await stage.peer(follower)
        stage.peers.clear()
        await follows.ask(Primitive.FLOOR_QUERY, FLOOR)
        assert state_of(await peer.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (1, RequestState.GRANTED)
        await follows.announced()
        port = stage.listener.address.udp
        seats = {m.participant_id: m.floor for m in (holder, follower, stream)}
        assert port is not None
        there = follower.floor
        await until(lambda: stored(house, follower), lambda seat: seat == there, "its seat in its row", 10)
    again = House(database, clock, MirrorDesk)
    await again.meetings.restore()
    again.meeting = again.meetings.meeting(house.meeting.conference_id)
    for member in again.meeting.members.values():  # as SipRevival gives them their lines
        member.line = line = RecordingLine()
        line.peer_host = "127.0.0.1"
    async with staged(again, port) as stage:
        ready = again.meetings.worker_ready
        await asyncio.gather(ready("media-0", 100), ready("media-1", 101))
        assert {m.participant_id: m.floor for m in again.meeting.members.values()} == seats
        await again.give(Command.TAKE_BACK_SLIDES)
        assert state_of(await peer.announced()) == (1, RequestState.REVOKED)
        assert (await follows.announced()).attributes == (FLOOR,)
        tcp = await stage.peer(again.meeting.members[stream.participant_id])
        assert state_of(await tcp.ask(Primitive.FLOOR_REQUEST, FLOOR)) == (2, RequestState.GRANTED)
        assert state_of(await follows.announced()) == (2, RequestState.GRANTED)
    peer.close()
    follows.close()


async def stored(house: House, member: Member) -> object:
    return (await house.record(member.participant_id)).floor


async def test_a_worker_that_comes_later_is_told_whose_slides(stage: Stage) -> None:
    member, _ = await stage.join("room")
    await stage.present(member)
    assert stage.house.meeting.spec.staging == Staging(slides=member.participant_id)
