"""A meeting whose slides are to be had: terminals by what their SDP looks like, a worker, a floor server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from foundation.desks import Dialled, MediaDescription, ParticipantSpec, SectionKind
from foundation.tasks import TaskScope
from protocols.bfcp.attributes import AttributeType, Number
from signaling.bfcp_listener import BfcpSettings
from signaling.bfcp_service import BfcpService
from signaling.control.orders import Command, Order
from signaling.media_description import read_sdp, write_sdp
from signaling.meeting import Access, Caller, Member
from tests.signaling.floors.bfcp_peer import BfcpPeer
from tests.signaling.house import House
from tests.signaling.recording_desk import RecordingDesk, RecordingLine

FLOOR = Number(AttributeType.FLOOR_ID, 1)

HEAD = """v=0
o=- 1715 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
"""
GROUP_STYLE = f"""{HEAD}m=audio 49152 RTP/AVP 8
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
ENDPOINT_STYLE = f"""{HEAD}m=audio 16448 RTP/AVP 8
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
STREAM_STYLE = f"""{HEAD}m=audio 10002 RTP/AVP 8
m=video 10004 RTP/AVP 106
a=rtpmap:106 H264/90000
m=video 10006 RTP/AVP 106
a=rtpmap:106 H264/90000
m=application 9 TCP/BFCP *
a=floorctrl:c-only
a=setup:active
a=connection:new
"""
BROWSER = """v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 AA:BB
a=setup:actpass
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=rtpmap:111 opus/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:1
a=rtpmap:96 H264/90000
m=video 0 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:2
a=bundle-only
a=rtpmap:96 H264/90000
""".replace("\n", "\r\n")


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

    async def terminal(self, name: str, sdp: str = GROUP_STYLE) -> tuple[Member, BfcpPeer]:
        """A caller, and its BFCP."""
        member, _ = await self.join(name, sdp)
        return member, await self.peer(member)

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


def floor_lines(sdp: str) -> list[str]:
    """The lines of our BFCP section."""
    _, found, rest = sdp.partition("m=application ")
    return [found + line if not i else line for i, line in enumerate(rest.split("m=")[0].splitlines())]
