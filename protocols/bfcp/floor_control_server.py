"""The floor control server of one meeting (RFC 8855 13): one floor, the slides, and who has it.

    server = FloorControlServer(conference_id=7, floor_id=1)
    server.add(user_id=21, reliable=False)
    server.receive(21, data, now);  server.tick(now)         bytes of that participant's connection
    for user_id, data in server.take_outgoing(): ...
    for event in server.take_events(): ...                   FloorTaken, FloorFreed, ParticipantUnreachable

No sockets, no clock. Who asks while another has the floor gets it, and the other one's grant is revoked: the
last to share is shown, as on room terminals. `take` gives it to one outside BFCP (a browser), `revoke` takes
it back. Over datagrams (13.8, 8.3) answers are kept for those who ask twice, and what we announce is sent
again until it is acknowledged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from protocols.bfcp.attributes import (
    Attribute,
    AttributeType,
    ErrorCode,
    ErrorReason,
    Group,
    MalformedBfcp,
    Number,
    RequestState,
    RequestStatus,
    Supported,
    Text,
)
from protocols.bfcp.message import Header, Message, Primitive, parse

T1 = 0.5
"""Seconds until what we announce is sent again; each further wait is twice as long (8.3.1)."""
RETRANSMISSIONS = 3
T2 = 10.0
"""Seconds that an answer is kept for a request that comes again (8.3.2)."""
ANSWERS_KEPT = 32
WAITING = 16
"""Announcements of one participant that wait for their acknowledgement; they go one after the other."""

SUPPORTED_PRIMITIVES = tuple(int(primitive) for primitive in Primitive)
SUPPORTED_ATTRIBUTES = tuple(int(attribute) for attribute in AttributeType)


@dataclass(frozen=True, slots=True)
class FloorTaken:
    """`user_id` has the floor; None stands for one outside BFCP."""

    user_id: int | None


@dataclass(frozen=True, slots=True)
class FloorFreed:
    """Nobody has the floor any more; `user_id` had it."""

    user_id: int | None


@dataclass(frozen=True, slots=True)
class ParticipantUnreachable:
    """What we announced was never acknowledged."""

    user_id: int


Event = FloorTaken | FloorFreed | ParticipantUnreachable


@dataclass(slots=True)
class _Announced:
    """A message of ours on its way; `due` is when it is sent again."""

    message: Message
    due: float
    wait: float = T1
    sent: int = 1


@dataclass(slots=True)
class _Participant:
    """One connection. `follows` has asked to hear of the floor."""

    user_id: int
    reliable: bool
    follows: bool = False
    next_transaction: int = 1
    answers: OrderedDict[tuple[int, int], tuple[float, bytes]] = field(default_factory=OrderedDict)
    waiting: list[_Announced] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Grant:
    """Who has the floor, by which request; both None for one outside BFCP."""

    user_id: int | None
    request_id: int | None


_ACKNOWLEDGEMENTS = frozenset({Primitive.FLOOR_REQUEST_STATUS_ACK, Primitive.FLOOR_STATUS_ACK})


class FloorControlServer:
    """See the module's head. `dropped` counts what was no BFCP, or no participant's of this meeting."""

    def __init__(self, *, conference_id: int, floor_id: int) -> None:
        self.conference_id = conference_id
        self.floor_id = floor_id
        self.dropped = 0
        self._participants: dict[int, _Participant] = {}
        self._grant: _Grant | None = None
        self._next_request = 1
        self._outgoing: list[tuple[int, bytes]] = []
        self._events: list[Event] = []
        self._handlers: MappingProxyType[int, Callable[[_Participant, Message, float], Message]] = (
            MappingProxyType(
                {
                    Primitive.HELLO: self._hello,
                    Primitive.FLOOR_REQUEST: self._floor_request,
                    Primitive.FLOOR_RELEASE: self._floor_release,
                    Primitive.FLOOR_REQUEST_QUERY: self._floor_request_query,
                    Primitive.FLOOR_QUERY: self._floor_query,
                    Primitive.USER_QUERY: self._user_query,
                    Primitive.CHAIR_ACTION: self._chair_action,
                    Primitive.GOODBYE: self._goodbye,
                }
            )
        )

    # --- who is there -------------------------------------------------------------------------------

    @property
    def holder(self) -> int | None:
        """The participant that has the floor; None for nobody, or one outside BFCP."""
        return None if self._grant is None else self._grant.user_id

    @property
    def taken(self) -> bool:
        return self._grant is not None

    def add(self, user_id: int, *, reliable: bool) -> None:
        """A participant's connection is there; `reliable` says that it is a stream."""
        self._participants[user_id] = _Participant(user_id, reliable)

    def remove(self, user_id: int, now: float) -> None:
        """The participant left: the floor it had is free."""
        self._participants.pop(user_id, None)
        if self._grant is not None and self._grant.user_id == user_id:
            self._free(now)

    def take(self, now: float) -> None:
        """One outside BFCP gets the floor; whoever had it loses it."""
        self._revoke_holder(now)
        self._give(_Grant(None, None), now)

    def revoke(self, now: float) -> None:
        """Take the floor back from whoever has it."""
        if self._grant is not None:
            self._revoke_holder(now)
            self._free(now)

    # --- bytes in, bytes out ------------------------------------------------------------------------

    def receive(self, user_id: int, data: bytes, now: float) -> None:
        """One message that came over this participant's connection."""
        participant = self._participants.get(user_id)
        if participant is None:
            self.dropped += 1
            return
        try:
            header = Header.parse(data)
        except MalformedBfcp:
            self.dropped += 1
            return
        if header.responder or header.primitive in _ACKNOWLEDGEMENTS:
            self._acknowledged(participant, header, now)
            return
        key = (header.transaction_id, header.primitive)
        known = participant.answers.get(key)
        if known is not None and not participant.reliable and now - known[0] < T2:
            self._outgoing.append((user_id, known[1]))
            return
        answer = self._answer(participant, header, data, now)
        printed = answer.print(reliable=participant.reliable)
        self._outgoing.append((user_id, printed))
        if not participant.reliable:
            participant.answers[key] = (now, printed)
            while len(participant.answers) > ANSWERS_KEPT:
                participant.answers.popitem(last=False)

    def tick(self, now: float) -> None:
        """Send again what was not acknowledged; call it a few times a second."""
        for participant in tuple(self._participants.values()):
            if not participant.waiting or participant.waiting[0].due > now:
                continue
            first = participant.waiting[0]
            if first.sent > RETRANSMISSIONS:
                participant.waiting.clear()
                self._events.append(ParticipantUnreachable(participant.user_id))
                continue
            first.sent += 1
            first.wait *= 2
            first.due = now + first.wait
            self._outgoing.append((participant.user_id, first.message.print()))

    def take_outgoing(self) -> list[tuple[int, bytes]]:
        """What is to be sent now, to whom."""
        taken, self._outgoing = self._outgoing, []
        return taken

    def take_events(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken

    # --- requests (RFC 8855 13) -----------------------------------------------------------------------

    def _answer(self, participant: _Participant, header: Header, data: bytes, now: float) -> Message:
        if header.version != (1 if participant.reliable else 2):
            return self._error(header, ErrorCode(ErrorReason.UNSUPPORTED_VERSION))
        if header.conference_id != self.conference_id:
            return self._error(header, ErrorCode(ErrorReason.CONFERENCE_DOES_NOT_EXIST))
        if header.user_id != participant.user_id:
            return self._error(header, ErrorCode(ErrorReason.USER_DOES_NOT_EXIST))
        handler = self._handlers.get(header.primitive)
        if handler is None:
            return self._error(header, ErrorCode(ErrorReason.UNKNOWN_PRIMITIVE))
        try:
            message = parse(data)
        except MalformedBfcp as fault:
            return self._error(header, ErrorCode(ErrorReason.UNABLE_TO_PARSE_MESSAGE), str(fault))
        if message.fragment is not None:
            words = "requests fit into one datagram here"
            return self._error(header, ErrorCode(ErrorReason.UNABLE_TO_PARSE_MESSAGE), words)
        if unknown := message.unknown_mandatory:
            return self._error(header, ErrorCode.unknown_attributes(unknown))
        return handler(participant, message, now)

    def _hello(self, _participant: _Participant, message: Message, _now: float) -> Message:
        return self._response(
            message,
            Primitive.HELLO_ACK,
            Supported(AttributeType.SUPPORTED_PRIMITIVES, SUPPORTED_PRIMITIVES),
            Supported(AttributeType.SUPPORTED_ATTRIBUTES, SUPPORTED_ATTRIBUTES),
        )

    def _floor_request(self, participant: _Participant, message: Message, now: float) -> Message:
        floors = message.numbers(AttributeType.FLOOR_ID)
        if floors != (self.floor_id,):
            return self._error(message, ErrorCode(ErrorReason.INVALID_FLOOR_ID))
        grant = self._grant
        if grant is None or grant.user_id != participant.user_id:  # who has it keeps it, by the same request
            self._revoke_holder(now)
            grant = _Grant(participant.user_id, self._next_request)
            self._next_request = self._next_request % 0xFFFF + 1
            self._give(grant, now)
        return self._request_status(message, grant.request_id or 0, RequestState.GRANTED)

    def _floor_release(self, participant: _Participant, message: Message, now: float) -> Message:
        request_id = message.number(AttributeType.FLOOR_REQUEST_ID)
        grant = self._grant
        if grant is None or grant.user_id != participant.user_id or grant.request_id != request_id:
            return self._error(message, ErrorCode(ErrorReason.FLOOR_REQUEST_ID_DOES_NOT_EXIST))
        self._free(now)
        return self._request_status(message, request_id or 0, RequestState.RELEASED)

    def _floor_request_query(self, _participant: _Participant, message: Message, _now: float) -> Message:
        request_id = message.number(AttributeType.FLOOR_REQUEST_ID)
        if request_id is None or self._grant is None or self._grant.request_id != request_id:
            return self._error(message, ErrorCode(ErrorReason.FLOOR_REQUEST_ID_DOES_NOT_EXIST))
        return self._request_status(message, request_id, RequestState.GRANTED)

    def _floor_query(self, participant: _Participant, message: Message, _now: float) -> Message:
        floors = message.numbers(AttributeType.FLOOR_ID)
        if any(floor != self.floor_id for floor in floors):
            return self._error(message, ErrorCode(ErrorReason.INVALID_FLOOR_ID))
        participant.follows = bool(floors)  # none at all: no more to be heard of any floor (13.5)
        return self._response(message, Primitive.FLOOR_STATUS, *self._floor_status())

    def _user_query(self, participant: _Participant, message: Message, _now: float) -> Message:
        asked = message.number(AttributeType.BENEFICIARY_ID)
        user_id = participant.user_id if asked is None else asked
        if user_id not in self._participants:
            return self._error(message, ErrorCode(ErrorReason.USER_DOES_NOT_EXIST))
        held: tuple[Attribute, ...] = ()
        if self._grant is not None and self._grant.user_id == user_id:
            held = (self._information(self._grant.request_id or 0, RequestState.GRANTED),)
        beneficiary = Group(AttributeType.BENEFICIARY_INFORMATION, user_id)
        return self._response(message, Primitive.USER_STATUS, beneficiary, *held)

    def _chair_action(self, _participant: _Participant, message: Message, _now: float) -> Message:
        words = "this meeting's chair acts by its own means"
        return self._error(message, ErrorCode(ErrorReason.UNAUTHORIZED_OPERATION), words)

    def _goodbye(self, participant: _Participant, message: Message, now: float) -> Message:
        participant.follows = False
        participant.waiting.clear()
        if self._grant is not None and self._grant.user_id == participant.user_id:
            self._free(now)
        return self._response(message, Primitive.GOODBYE_ACK)

    # --- the floor -------------------------------------------------------------------------------------

    def _give(self, grant: _Grant, now: float) -> None:
        self._grant = grant
        self._events.append(FloorTaken(grant.user_id))
        self._tell_followers(now)

    def _free(self, now: float) -> None:
        grant, self._grant = self._grant, None
        self._events.append(FloorFreed(None if grant is None else grant.user_id))
        self._tell_followers(now)

    def _revoke_holder(self, now: float) -> None:
        """The grant ends; what becomes of the floor is said by whoever calls."""
        grant, self._grant = self._grant, None
        holder = None if grant is None or grant.user_id is None else self._participants.get(grant.user_id)
        if grant is not None and holder is not None:
            information = self._information(grant.request_id or 0, RequestState.REVOKED)
            self._announce(holder, Primitive.FLOOR_REQUEST_STATUS, (information,), now)

    def _tell_followers(self, now: float) -> None:
        for participant in self._participants.values():
            if participant.follows:
                self._announce(participant, Primitive.FLOOR_STATUS, self._floor_status(), now)

    def _floor_status(self) -> tuple[Attribute, ...]:
        floor = Number(AttributeType.FLOOR_ID, self.floor_id)
        if self._grant is None:
            return (floor,)
        extra: tuple[Attribute, ...] = ()
        if self._grant.user_id is not None:
            extra = (Group(AttributeType.BENEFICIARY_INFORMATION, self._grant.user_id),)
        return floor, self._information(self._grant.request_id or 0, RequestState.GRANTED, extra)

    def _information(self, request_id: int, state: RequestState, extra: tuple[Attribute, ...] = ()) -> Group:
        """FLOOR-REQUEST-INFORMATION (5.2.15)."""
        overall = Group(AttributeType.OVERALL_REQUEST_STATUS, request_id, (RequestStatus(int(state)),))
        floor = Group(AttributeType.FLOOR_REQUEST_STATUS, self.floor_id)
        return Group(AttributeType.FLOOR_REQUEST_INFORMATION, request_id, (overall, floor, *extra))

    # --- messages of ours --------------------------------------------------------------------------------

    def _announce(
        self, participant: _Participant, primitive: Primitive, attributes: tuple[Attribute, ...], now: float
    ) -> None:
        if participant.reliable:
            message = Message(primitive, self.conference_id, 0, participant.user_id, attributes)
            self._outgoing.append((participant.user_id, message.print(reliable=True)))
            return
        number = participant.next_transaction
        participant.next_transaction = number % 0xFFFF + 1
        message = Message(primitive, self.conference_id, number, participant.user_id, attributes)
        if len(participant.waiting) >= WAITING:
            participant.waiting.clear()
            self._events.append(ParticipantUnreachable(participant.user_id))
            return
        participant.waiting.append(_Announced(message, now + T1))
        if len(participant.waiting) == 1:
            self._outgoing.append((participant.user_id, message.print()))

    def _acknowledged(self, participant: _Participant, header: Header, now: float) -> None:
        """The next announcement goes once the one before has arrived: they must not overtake one another."""
        waiting = participant.waiting
        if not waiting or waiting[0].message.transaction_id != header.transaction_id:
            return
        del waiting[0]
        if waiting:
            waiting[0].due = now + T1
            self._outgoing.append((participant.user_id, waiting[0].message.print()))

    def _request_status(self, message: Message, request_id: int, state: RequestState) -> Message:
        return self._response(message, Primitive.FLOOR_REQUEST_STATUS, self._information(request_id, state))

    def _response(self, asked: Message, primitive: Primitive, *attributes: Attribute) -> Message:
        return Message(
            primitive, asked.conference_id, asked.transaction_id, asked.user_id, attributes, responder=True
        )

    def _error(self, asked: Message | Header, code: ErrorCode, words: str = "") -> Message:
        info = (Text(AttributeType.ERROR_INFO, words),) if words else ()
        return Message(
            Primitive.ERROR,
            asked.conference_id,
            asked.transaction_id,
            asked.user_id,
            (code, *info),
            responder=True,
        )
