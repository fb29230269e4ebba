"""Floor control of the running meetings: BFCP on one side, meeting control on the other.

    floors.serves("extranet", door)                          a network's ports are open (or will be)
    answer = floors.answered(member, offer, worker's answer) our BFCP section; a seat for the member
    floors.take(arrival, data);  floors.tick(now)            what participants send; a few times a second
    floors.slides_changed(meeting)                           control decided: whoever it concerns is told

Who speaks is known by the ids that its SDP was told, and heard only from where its call comes from: the hosts
of its media, of its BFCP as described, and of its signalling. Whom control gives the slides has the floor; a
request is an order to control, so that pages, operators and terminals have one queue.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from foundation.audit import AuditEntry
from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import MediaDescription, Refusal, SectionKind
from protocols.bfcp.attributes import ErrorCode, ErrorReason, MalformedBfcp
from protocols.bfcp.floor_control_server import (
    Event,
    FloorAsked,
    FloorControlServer,
    FloorReleased,
    Holder,
    ParticipantUnreachable,
    error_to,
    is_request,
)
from protocols.bfcp.message import OVER_DATAGRAMS, Header
from signaling.control.orders import Command, NotAllowed, NotNow, Order, Outdated
from signaling.floor_sections import (
    FLOOR_ID,
    FloorAddress,
    described_version,
    is_reliable,
    may_have_slides,
    usable_floor,
    with_floor,
)
from signaling.meeting import FloorSeat, Meeting, Member
from signaling.roster import Roster, UnknownMeeting, written

log = structlog.get_logger(__name__)

FREE_AFTER = 15.0
"""Seconds that the floor of one whose connection broke is kept for it."""
STOP_TRIES, STOP_AGAIN = 5, 1.0
_MOST_CONFERENCE = 0x7FFF_FFFF
"""Conference ids are 32 bits; some terminals read them as signed."""


class FloorDoor(Protocol):
    """The BFCP ports of one network."""

    @property
    def address(self) -> FloorAddress: ...

    def send(self, host: str, port: int, data: bytes) -> None:
        """One datagram."""
        ...


class FloorStream(Protocol):
    """A peer's connection."""

    @property
    def host(self) -> str: ...

    def send(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a message came from; `stream` None for a datagram."""

    network: str
    host: str
    port: int
    stream: FloorStream | None = None


@dataclass(slots=True, eq=False)
class _Place:
    """A participant at its meeting's server; `lost_at` is when its connection broke."""

    member: Member
    stream: FloorStream | None = None
    lost_at: float | None = None


@dataclass(slots=True, eq=False)
class _Floor:
    conference_id: str
    server: FloorControlServer
    places: dict[int, _Place] = field(default_factory=dict)

    def user_of(self, participant_id: str) -> int | None:
        return next((u for u, p in self.places.items() if p.member.participant_id == participant_id), None)


@dataclass(slots=True)
class FloorCounters:
    """Since the start, for metrics."""

    strangers: int = 0
    malformed: int = 0
    unsent: int = 0


class Floors:
    """See the module's head. `ordered_by` names who carries orders out, before anybody can speak."""

    def __init__(self, roster: Roster) -> None:
        self.counters = FloorCounters()
        self._roster = roster
        self._doors: dict[str, FloorDoor] = {}
        self._floors: dict[str, _Floor] = {}
        self._by_number: dict[int, _Floor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._give: Callable[[str, Order], Awaitable[object]] | None = None

    def ordered_by(self, give: Callable[[str, Order], Awaitable[object]]) -> None:
        self._give = give

    def serves(self, network: str, door: FloorDoor) -> None:
        self._doors[network] = door

    # --- descriptions -----------------------------------------------------------------------------------

    def answered(self, member: Member, theirs: MediaDescription, ours: MediaDescription) -> MediaDescription:
        """Our answer with its BFCP section, where there are slides to take and the peer is a client."""
        door = self._doors.get(member.caller.network)
        index = None if door is None else usable_floor(theirs.sections, door.address)
        if door is None or index is None or index >= len(ours.sections) or not may_have_slides(theirs, ours):
            self.left(member)
            return ours
        section = theirs.sections[index]
        version = described_version(section)
        seat = self._seated(member, is_reliable(section), section.address, section.port, version)
        asked = "" if section.floor is None else section.floor.connection
        connected = self._place(member) is not None and self._stream(member) is not None
        connection = "existing" if asked == "existing" and connected else "new"
        return with_floor(ours, index, seat, door.address, connection, version or OVER_DATAGRAMS)

    def offered(self, member: Member, ours: MediaDescription) -> MediaDescription:
        """Our offer with a BFCP section: the one that the call has, or a new last one."""
        door = self._doors.get(member.caller.network)
        if door is None or not any(s.kind is SectionKind.SLIDES and s.port for s in ours.sections):
            return ours
        there = [i for i, section in enumerate(ours.sections) if section.kind is SectionKind.FLOOR]
        if there and member.floor is None:
            return ours
        seat = member.floor or self._seated(member, door.address.udp is None, "", 0)
        if door.address.port(seat.reliable) is None:
            return ours
        index = next((i for i in there if is_reliable(ours.sections[i]) is seat.reliable), None)
        if there and index is None:
            return ours
        connected = self._stream(member) is not None  # RFC 4145 5: it is not to connect once more
        return with_floor(ours, index, seat, door.address, "existing" if connected else "new")

    def taken(self, member: Member, ours: MediaDescription, answer: MediaDescription) -> MediaDescription:
        """The peer's answer to our offer, less the section that the worker does not know of."""
        door = self._doors.get(member.caller.network)
        index = None if door is None else usable_floor(answer.sections, door.address)
        if index is None or member.floor is None:
            self.left(member)
        else:
            section = answer.sections[index]
            version = described_version(section)
            self._seated(member, member.floor.reliable, section.address, section.port, version)
        return replace(answer, sections=answer.sections[: len(ours.sections)])

    def left(self, member: Member) -> None:
        """The participant has no seat any more."""
        floor = self._floors.get(member.conference_id)
        seat, member.floor = member.floor, None
        place = None if floor is None or seat is None else floor.places.get(seat.user)
        if floor is None or seat is None or place is None or place.member is not member:
            return
        del floor.places[seat.user]
        floor.server.remove(seat.user)
        if place.stream is not None:
            place.stream.close()

    def forget(self, conference_id: str) -> None:
        """The meeting has ended."""
        floor = self._floors.pop(conference_id, None)
        if floor is not None:
            self._by_number.pop(floor.server.conference_id, None)
            for place in tuple(floor.places.values()):
                self.left(place.member)

    def _seated(
        self, member: Member, reliable: bool, host: str, port: int, version: int | None = None
    ) -> FloorSeat:
        """The member's seat: the one it has, with where its BFCP is now, or a new one."""
        floor = self._floor(member.conference_id)
        seat = member.floor
        if seat is not None and seat.reliable is not reliable:
            self.left(member)
            seat = None
        if seat is None:
            user = secrets.randbelow(0xFFFF) + 1
            while user in floor.places:
                user = secrets.randbelow(0xFFFF) + 1
            seat = FloorSeat(floor.server.conference_id, user, reliable)
            self._place_at(floor, seat, member)
        if (host, port) not in (("", 0), seat.described):  # else it is where it was heard
            seat = replace(seat, host=host, port=port, described=(host, port))
        if version is not None:
            floor.server.suppose_version(seat.user, version)
            seat = replace(seat, version=floor.server.version(seat.user))
        member.floor = seat
        return seat

    def _place_at(self, floor: _Floor, seat: FloorSeat, member: Member) -> None:
        floor.places[seat.user] = _Place(member)
        first = secrets.randbelow(0xFFFF) + 1
        floor.server.add(
            seat.user,
            reliable=seat.reliable,
            follows=seat.follows,
            first_transaction=first,
            version=seat.version,
        )

    def _floor(self, conference_id: str, number: int | None = None) -> _Floor:
        floor = self._floors.get(conference_id)
        if floor is None:
            while number is None or number in self._by_number:
                number = secrets.randbelow(_MOST_CONFERENCE) + 1
            server = FloorControlServer(conference_id=number, floor_id=FLOOR_ID)
            floor = self._floors[conference_id] = self._by_number[number] = _Floor(conference_id, server)
            meeting = self._roster.meetings.get(conference_id)
            if meeting is not None and meeting.control.slides is not None:
                server.restore(self._holder(floor, meeting))
        return floor

    def _place(self, member: Member) -> _Place | None:
        floor = self._floors.get(member.conference_id)
        return None if floor is None or member.floor is None else floor.places.get(member.floor.user)

    def _stream(self, member: Member) -> FloorStream | None:
        place = self._place(member)
        return None if place is None else place.stream

    # --- what control decides -----------------------------------------------------------------------------

    def slides_changed(self, meeting: Meeting) -> None:
        floor = self._floors.get(meeting.conference_id)
        if floor is None:
            return
        nobody = meeting.control.slides is None
        floor.server.assign(None if nobody else self._holder(floor, meeting), time.monotonic())
        self._pump(floor)

    def _holder(self, floor: _Floor, meeting: Meeting) -> Holder:
        presenter = meeting.control.slides or ""
        user = floor.user_of(presenter)
        return Holder(user, 0 if user is None else meeting.control.slides_request)

    def restored(self) -> None:
        """Meetings came from the rows: their members sit where they sat, who presented goes on."""
        now = time.monotonic()
        for meeting in self._roster.running:
            seated = [m for m in meeting.members.values() if m.floor is not None]
            for member in seated:
                assert member.floor is not None
                floor = self._floor(meeting.conference_id, member.floor.conference)
                self._place_at(floor, member.floor, member)
                floor.places[member.floor.user].lost_at = now if member.floor.reliable else None
            if seated and meeting.control.slides is not None:
                floor = self._floors[meeting.conference_id]
                floor.server.restore(self._holder(floor, meeting))

    # --- what participants send -----------------------------------------------------------------------------

    def take(self, arrival: Arrival, data: bytes) -> bool:
        """One message; False from a stranger, or for what is no BFCP."""
        try:
            header = Header.parse(data)
        except MalformedBfcp:
            self.counters.malformed += 1
            return False
        floor = self._by_number.get(header.conference_id)
        place = None if floor is None else floor.places.get(header.user_id)
        if floor is None or place is None:
            self.counters.strangers += 1
            reason = (
                ErrorReason.CONFERENCE_DOES_NOT_EXIST if floor is None else ErrorReason.USER_DOES_NOT_EXIST
            )
            return self._is_guest(arrival) and self._correct(arrival, header, reason)
        if not self._speaks_from(place.member, arrival):
            self.counters.strangers += 1
            return False
        self._latch(floor, place, header.user_id, arrival)
        floor.server.receive(header.user_id, data, time.monotonic())
        self._pump(floor)
        user = header.user_id
        self._keep(place, follows=floor.server.follows(user), version=floor.server.version(user))
        return True

    def broken(self, stream: FloorStream) -> None:
        """A connection is gone; its participant may come again."""
        for floor in self._floors.values():
            for place in floor.places.values():
                if place.stream is stream:
                    place.stream, place.lost_at = None, time.monotonic()

    def tick(self, now: float) -> None:
        for floor in tuple(self._floors.values()):
            floor.server.tick(now)
            self._pump(floor)
            for user, place in tuple(floor.places.items()):
                if place.lost_at is None or now - place.lost_at < FREE_AFTER:
                    continue
                place.lost_at = None
                holder = floor.server.holder
                if holder is not None and holder.user_id == user:
                    self._spawn(self._stop(floor, place.member, "its connection is gone"))

    async def aclose(self) -> None:
        """Orders under way are not carried out any more; connections are closed."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _speaks_from(self, member: Member, arrival: Arrival) -> bool:
        seat = member.floor
        if seat is None or seat.reliable is not (arrival.stream is not None):
            return False
        return arrival.network == member.caller.network and _plain(arrival.host) in _hosts(member)

    def _is_guest(self, arrival: Arrival) -> bool:
        """Whether any participant speaks from there: it is told of its mistake, nobody else is."""
        host = _plain(arrival.host)
        places = (place for floor in self._floors.values() for place in floor.places.values())
        return any(
            place.member.caller.network == arrival.network and host in _hosts(place.member)
            for place in places
        )

    def _correct(self, arrival: Arrival, header: Header, reason: ErrorReason) -> bool:
        if not is_request(header, reliable=arrival.stream is not None):
            return False
        answer = error_to(header, ErrorCode(reason)).print(reliable=arrival.stream is not None)
        if arrival.stream is not None:
            arrival.stream.send(answer)
        else:
            self._doors[arrival.network].send(arrival.host, arrival.port, answer)
        return False

    def _latch(self, floor: _Floor, place: _Place, user: int, arrival: Arrival) -> None:
        """Answers go where the participant was heard last: a NAT may have moved it."""
        if arrival.stream is None:
            self._keep(place, host=arrival.host, port=arrival.port)
        elif place.stream is not arrival.stream:
            if place.stream is not None:
                place.stream.close()
            place.stream, place.lost_at = arrival.stream, None
            floor.server.reconnected(user)

    def _keep(self, place: _Place, **known: Any) -> None:
        """What has to outlive this process, in the participant's row."""
        seat = place.member.floor
        if seat is None or all(getattr(seat, name) == value for name, value in known.items()):
            return
        place.member.floor = replace(seat, **known)
        if place.member.media is not None:
            self._spawn(written(self._roster.rows.changed(place.member)))

    def _pump(self, floor: _Floor) -> None:
        for event in floor.server.take_events():
            self._follow(floor, event)
        for user, data in floor.server.take_outgoing():
            place = floor.places.get(user)
            seat = None if place is None else place.member.floor
            if place is None or seat is None:
                continue
            door = self._doors.get(place.member.caller.network)
            if seat.reliable and place.stream is not None:
                place.stream.send(data)
            elif not seat.reliable and seat.port and door is not None:
                door.send(seat.host, seat.port, data)
            else:
                self.counters.unsent += 1

    def _follow(self, floor: _Floor, event: Event) -> None:
        place = floor.places.get(event.user_id)
        if place is None:
            return
        match event:
            case FloorAsked(_, request_id):
                self._spawn(self._ask(floor, place.member, event.user_id, request_id))
            case FloorReleased():
                self._spawn(self._stop(floor, place.member, ""))
            case ParticipantUnreachable():  # many do not acknowledge; its media say whether it lives
                log.info("bfcp_unacknowledged", participant=place.member.participant_id)

    async def _ask(self, floor: _Floor, member: Member, user: int, request_id: int) -> None:
        who = member.participant_id
        order = Order(Command.PRESENT, member.caller.name, who, site=who, request=request_id)
        try:
            await self._order(floor, order)
        except (NotAllowed, NotNow, UnknownMeeting, DatabaseError, DeskFailed, Refusal) as error:
            log.info("slides_refused", participant=who, why=str(error))
            floor.server.deny(user, request_id, str(error), time.monotonic())
            self._pump(floor)
            return
        await self._audit(floor, member, Command.PRESENT, "")

    async def _stop(self, floor: _Floor, member: Member, why: str) -> None:
        """Free what is free already: tried again while the database is busy."""
        who = member.participant_id
        for _ in range(STOP_TRIES):
            try:
                await self._order(floor, Order(Command.STOP_PRESENTING, member.caller.name, who, site=who))
            except (NotAllowed, NotNow, Outdated, UnknownMeeting):
                return  # it does not present, or is gone
            except (DatabaseError, DeskFailed, Refusal) as error:
                log.warning("slides_not_freed", participant=who, why=str(error))
                await asyncio.sleep(STOP_AGAIN)
                continue
            await self._audit(floor, member, Command.STOP_PRESENTING, why)
            return

    async def _order(self, floor: _Floor, order: Order) -> None:
        assert self._give is not None, "ordered_by comes first"
        await self._give(floor.conference_id, order)

    async def _audit(self, floor: _Floor, member: Member, command: Command, why: str) -> None:
        detail = {"participant": member.participant_id, "by": "BFCP"} | ({"why": why} if why else {})
        host = "" if member.floor is None else member.floor.host
        subject = f"conference:{floor.conference_id}"
        entry = AuditEntry(member.caller.name, command, subject, "done", host, detail)
        await written(self._roster.rows.audit(entry))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="floor")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("floor_step_failed", exc_info=error)


def _hosts(member: Member) -> set[str]:
    """Where a participant may speak from."""
    described = () if member.media is None else member.media.theirs.sections
    known = {section.address for section in described}
    known |= {member.line.peer_host or ""}
    if member.floor is not None:
        known |= {member.floor.host, member.floor.described[0]}
    return {_plain(host) for host in known} - {"", "0.0.0.0", "::"}


def _plain(host: str) -> str:
    """One spelling for each address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
