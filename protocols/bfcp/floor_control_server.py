"""The floor control server of one meeting (RFC 8855 13): one floor, the slides, and who has it.

    server = FloorControlServer(conference_id=7, floor_id=1)
    server.add(user_id=21, reliable=False)
    server.receive(21, data, now);  server.tick(now)         bytes of that participant's connection
    for event in server.take_events(): ...                   FloorAsked, FloorReleased, ParticipantUnreachable
    server.assign(Holder(21, request_id), now)               who has the floor from now on
    server.deny(21, request_id, "why", now)
    for user_id, data in server.take_outgoing(): ...

No sockets, no clock, and no decision: who gets the floor is decided elsewhere (`assign`, `deny`), also for
those outside BFCP (a browser); this tells whoever asked, whoever lost it, and whoever follows the floor. A
request that is not decided at once is answered as pending. Over datagrams (8.3, 13.8) answers are kept for
those who ask twice, and what we announce is sent again until it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from protocols.bfcp.message import (
    HEADER,
    OVER_DATAGRAMS,
    OVER_STREAMS,
    TAKEN_OVER_DATAGRAMS,
    Header,
    Message,
    Primitive,
    parse,
)
from protocols.bfcp.transactions import Transactions

PENDING_AFTER = 1.0
"""Seconds that a request waits for its decision before it is answered as pending: a peer that repeats it
after half a second has two tries left then (8.3.1), and simple ones know no more than granted and denied."""

SUPPORTED_PRIMITIVES = tuple(int(primitive) for primitive in Primitive)
SUPPORTED_ATTRIBUTES = tuple(int(attribute) for attribute in AttributeType)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the floor, by which request: `user_id` None for one outside BFCP, 0 for no request of BFCP."""

    user_id: int | None
    request_id: int = 0


@dataclass(frozen=True, slots=True)
class FloorAsked:
    """`user_id` wants the floor; `assign` or `deny` that request."""

    user_id: int
    request_id: int


@dataclass(frozen=True, slots=True)
class FloorReleased:
    """`user_id` gave the floor back, by a FloorRelease or a Goodbye; nobody has it now."""

    user_id: int


@dataclass(frozen=True, slots=True)
class ParticipantUnreachable:
    """What we announced was never acknowledged."""

    user_id: int


Event = FloorAsked | FloorReleased | ParticipantUnreachable


@dataclass(slots=True)
class _Participant:
    """One who may speak. `follows` has asked to hear of the floor."""

    user_id: int
    line: Transactions
    follows: bool = False
    asked: _Asked | None = None

    @property
    def reliable(self) -> bool:
        return self.line.reliable


@dataclass(slots=True)
class _Asked:
    """A request that is not decided; `message` is to be answered until it was, by PENDING."""

    request_id: int
    message: Message | None
    since: float


_ACKNOWLEDGEMENTS = frozenset({Primitive.FLOOR_REQUEST_STATUS_ACK, Primitive.FLOOR_STATUS_ACK})
_OF_SERVERS = frozenset(
    {
        Primitive.FLOOR_REQUEST_STATUS,
        Primitive.USER_STATUS,
        Primitive.FLOOR_STATUS,
        Primitive.CHAIR_ACTION_ACK,
        Primitive.HELLO_ACK,
        Primitive.ERROR,
        Primitive.GOODBYE_ACK,
    }
)
"""What a server says: nothing is answered to it, or two servers would never stop."""
_REQUESTS = frozenset(
    {
        Primitive.FLOOR_REQUEST,
        Primitive.FLOOR_RELEASE,
        Primitive.FLOOR_REQUEST_QUERY,
        Primitive.USER_QUERY,
        Primitive.FLOOR_QUERY,
        Primitive.CHAIR_ACTION,
        Primitive.HELLO,
    }
)
"""Those whose numbers the drafts of RFC 8855 have, too."""
_DRAFT_FLOOR_STATUS_ACK = Primitive.GOODBYE
_DRAFT_GOODBYE = Primitive.GOODBYE_ACK
_DRAFT_GOODBYE_ACK = 18
"""Terminals built on the drafts count from 15 on by one more, and some of them set no R flag."""


def is_request(header: Header, *, reliable: bool) -> bool:
    """Whether the message is one that a server answers, be it with an Error."""
    known = header.primitive in _OF_SERVERS or header.primitive in _ACKNOWLEDGEMENTS
    return not known and (reliable or not _is_response(header))


def _is_response(header: Header) -> bool:
    """The R flag of a datagram. Version 1 has none, but stacks between the two may set it (5.1)."""
    return header.responder and (header.version != OVER_STREAMS or header.primitive not in _REQUESTS)


class FloorControlServer:
    """See the module's head. `dropped` counts what was no BFCP, or no participant's of this meeting."""

    def __init__(self, *, conference_id: int, floor_id: int) -> None:
        self.conference_id = conference_id
        self.floor_id = floor_id
        self.dropped = 0
        self._participants: dict[int, _Participant] = {}
        self._holder: Holder | None = None
        self._next_request = 1
        self._events: list[Event] = []
        self._handlers: MappingProxyType[int, Callable[[_Participant, Message, float], Message | None]] = (
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
                    _DRAFT_GOODBYE: self._goodbye,
                }
            )
        )

    # --- who is there -------------------------------------------------------------------------------

    @property
    def holder(self) -> Holder | None:
        return self._holder

    def add(
        self,
        user_id: int,
        *,
        reliable: bool,
        follows: bool = False,
        first_transaction: int = 1,
        version: int = OVER_DATAGRAMS,
    ) -> None:
        """A participant may speak; `reliable` says that it does so over a stream, `version` in which version
        of the header it is told over datagrams, until it is heard with another.

        One of an earlier process goes on to follow the floor; its announcements need numbers of their own.
        """
        line = Transactions(
            self.conference_id, user_id, reliable=reliable, first=first_transaction, version=version
        )
        self._participants[user_id] = _Participant(user_id, line, follows)

    def follows(self, user_id: int) -> bool:
        """Whether the participant asked to hear of the floor (13.5)."""
        participant = self._participants.get(user_id)
        return participant is not None and participant.follows

    def version(self, user_id: int) -> int:
        """That of the header, in which the participant is told over datagrams."""
        participant = self._participants.get(user_id)
        return OVER_DATAGRAMS if participant is None else participant.line.version

    def suppose_version(self, user_id: int, version: int) -> None:
        """The participant's description names a version; what it was heard with counts for more."""
        participant = self._participants.get(user_id)
        if participant is not None and not participant.line.was_heard:
            participant.line.version = version

    def remove(self, user_id: int) -> None:
        """The participant is gone, and what it asked; the floor it had is for `assign` to free."""
        self._participants.pop(user_id, None)

    def reconnected(self, user_id: int) -> None:
        """Its new stream knows of nothing yet: it follows the floor when it asks again (6.1)."""
        participant = self._participants.get(user_id)
        if participant is not None:
            self.add(user_id, reliable=participant.reliable)

    # --- what is decided elsewhere ----------------------------------------------------------------------

    def assign(self, holder: Holder | None, now: float) -> None:
        """Who has the floor from now on; who had it is told, and who asked. Once more changes nothing."""
        before = self._holder
        if before is None and holder is None:
            return
        same = before is not None and holder is not None and before.user_id == holder.user_id
        if same and before is not None and holder is not None and holder.request_id in (0, before.request_id):
            return
        if holder is not None and not holder.request_id:
            holder = Holder(holder.user_id, self._new_request())
        self._holder = holder
        if before is not None and before.user_id is not None and not same:
            self._tell_of_request(before.user_id, before.request_id, RequestState.REVOKED, now)
        if holder is not None and holder.user_id is not None:
            self._granted(holder.user_id, holder.request_id, now)
        self._tell_followers(now)

    def restore(self, holder: Holder) -> None:
        """Who has the floor already, or had it in an earlier process; everybody knows."""
        if holder.request_id:
            self._next_request = holder.request_id % 0xFFFF + 1
        self._holder = holder if holder.request_id else Holder(holder.user_id, self._new_request())

    def deny(self, user_id: int, request_id: int, words: str, now: float) -> None:
        """The request is refused, `words` say why (STATUS-INFO)."""
        participant = self._participants.get(user_id)
        asked = None if participant is None else participant.asked
        if participant is not None and asked is not None and asked.request_id == request_id:
            self._settle(participant, RequestState.DENIED, now, words)

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
        if not participant.reliable:
            participant.line.hear(header)
        if self._acknowledges(participant, header):
            participant.line.acknowledged(header, now)
            return
        goodbye = header.primitive == _DRAFT_GOODBYE and not participant.reliable
        if header.primitive in _OF_SERVERS and not goodbye:
            self.dropped += 1
            return
        if header.fragmented and not participant.reliable and header.version != OVER_STREAMS:
            whole = self._gathered(participant, data)
            if whole is None:
                return
            data, header = whole, Header.parse(whole)
        if participant.asked is not None and _is_repeated(participant, header):
            return  # its answer comes once it is decided
        if participant.line.repeat(header, now):
            return
        answer = self._answer(participant, header, data, now)
        if answer is not None:
            participant.line.respond(header, answer, now)

    def _acknowledges(self, participant: _Participant, header: Header) -> bool:
        """Whether nothing but an announcement of ours is answered by it."""
        if header.primitive in _ACKNOWLEDGEMENTS:
            return True
        if participant.reliable:
            return False
        number = header.transaction_id
        draft = header.primitive == _DRAFT_FLOOR_STATUS_ACK and participant.line.has_announced(number)
        return draft or _is_response(header)

    def _gathered(self, participant: _Participant, data: bytes) -> bytes | None:
        """The whole message, once its last part is there (6.2.3)."""
        try:
            return participant.line.fragments.add(data)
        except MalformedBfcp:
            self.dropped += 1
            return None

    def tick(self, now: float) -> None:
        """Answer what is still undecided, send again what was not acknowledged; a few times a second."""
        for participant in tuple(self._participants.values()):
            asked = participant.asked
            if asked is not None and asked.message is not None and now - asked.since >= PENDING_AFTER:
                message, asked.message = asked.message, None
                status = self._request_status(message, asked.request_id, RequestState.PENDING)
                participant.line.respond(message, status, now)
            if not participant.line.tick(now):
                self._events.append(ParticipantUnreachable(participant.user_id))

    def take_outgoing(self) -> list[tuple[int, bytes]]:
        """What is to be sent now, to whom."""
        found: list[tuple[int, bytes]] = []
        for participant in self._participants.values():
            found += [(participant.user_id, data) for data in participant.line.outgoing]
            participant.line.outgoing.clear()
        return found

    def take_events(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken

    # --- requests (RFC 8855 13) -----------------------------------------------------------------------

    def _answer(self, participant: _Participant, header: Header, data: bytes, now: float) -> Message | None:
        """The response; None for one that waits for a decision."""
        if header.version not in ((OVER_STREAMS,) if participant.reliable else TAKEN_OVER_DATAGRAMS):
            return error_to(header, ErrorCode(ErrorReason.UNSUPPORTED_VERSION))
        if header.conference_id != self.conference_id:
            return error_to(header, ErrorCode(ErrorReason.CONFERENCE_DOES_NOT_EXIST))
        if header.user_id != participant.user_id:
            return error_to(header, ErrorCode(ErrorReason.USER_DOES_NOT_EXIST))
        handler = self._handlers.get(header.primitive)
        if handler is None:
            return error_to(header, ErrorCode(ErrorReason.UNKNOWN_PRIMITIVE))
        if len(data) != HEADER.size + header.payload_bytes:
            return error_to(header, ErrorCode(ErrorReason.INCORRECT_MESSAGE_LENGTH))
        try:
            message = parse(data)
        except MalformedBfcp as fault:
            return error_to(header, ErrorCode(ErrorReason.UNABLE_TO_PARSE_MESSAGE), str(fault))
        if unknown := message.unknown_mandatory:
            return error_to(header, ErrorCode.unknown_attributes(unknown))
        return handler(participant, message, now)

    def _hello(self, _participant: _Participant, message: Message, _now: float) -> Message:
        return self._response(
            message,
            Primitive.HELLO_ACK,
            Supported(AttributeType.SUPPORTED_PRIMITIVES, SUPPORTED_PRIMITIVES),
            Supported(AttributeType.SUPPORTED_ATTRIBUTES, SUPPORTED_ATTRIBUTES),
        )

    def _floor_request(self, participant: _Participant, message: Message, now: float) -> Message | None:
        """13.1. Who has the floor keeps it by the same request; one request at a time is undecided."""
        if set(message.numbers(AttributeType.FLOOR_ID)) != {self.floor_id}:
            return error_to(message, ErrorCode(ErrorReason.INVALID_FLOOR_ID))
        beneficiary = message.number(AttributeType.BENEFICIARY_ID)
        if beneficiary not in (None, participant.user_id):
            known = beneficiary in self._participants
            reason = ErrorReason.UNAUTHORIZED_OPERATION if known else ErrorReason.USER_DOES_NOT_EXIST
            return error_to(message, ErrorCode(reason), "everybody asks for itself here")
        holder = self._holder
        if holder is not None and holder.user_id == participant.user_id:
            return self._request_status(message, holder.request_id, RequestState.GRANTED)
        if participant.asked is not None:
            return self._request_status(message, participant.asked.request_id, RequestState.PENDING)
        participant.asked = _Asked(self._new_request(), message, now)
        self._events.append(FloorAsked(participant.user_id, participant.asked.request_id))
        return None

    def _floor_release(self, participant: _Participant, message: Message, now: float) -> Message:
        """13.4: what was granted is released, what is pending cancelled."""
        request_id = message.number(AttributeType.FLOOR_REQUEST_ID)
        holder, asked = self._holder, participant.asked
        if asked is not None and asked.request_id == request_id:
            if asked.message is not None:
                status = self._request_status(asked.message, request_id, RequestState.PENDING)
                participant.line.respond(asked.message, status, now)
            participant.asked = None
            self._events.append(FloorReleased(participant.user_id))  # it may be decided this very moment
            return self._request_status(message, request_id, RequestState.CANCELLED)
        if holder is None or holder.user_id != participant.user_id or holder.request_id != request_id:
            return error_to(message, ErrorCode(ErrorReason.FLOOR_REQUEST_ID_DOES_NOT_EXIST))
        self._released(participant.user_id, now)
        return self._request_status(message, request_id, RequestState.RELEASED)

    def _floor_request_query(self, participant: _Participant, message: Message, _now: float) -> Message:
        request_id = message.number(AttributeType.FLOOR_REQUEST_ID)
        if request_id is not None and participant.asked and participant.asked.request_id == request_id:
            return self._request_status(message, request_id, RequestState.PENDING)
        if request_id is None or self._holder is None or self._holder.request_id != request_id:
            return error_to(message, ErrorCode(ErrorReason.FLOOR_REQUEST_ID_DOES_NOT_EXIST))
        return self._request_status(message, request_id, RequestState.GRANTED)

    def _floor_query(self, participant: _Participant, message: Message, _now: float) -> Message:
        """13.5: without a floor, no more is to be heard of any, and the answer has no attribute."""
        floors = message.numbers(AttributeType.FLOOR_ID)
        if any(floor != self.floor_id for floor in floors):
            return error_to(message, ErrorCode(ErrorReason.INVALID_FLOOR_ID))
        participant.follows = bool(floors)
        return self._response(message, Primitive.FLOOR_STATUS, *(self._floor_status() if floors else ()))

    def _user_query(self, participant: _Participant, message: Message, _now: float) -> Message:
        asked = message.number(AttributeType.BENEFICIARY_ID)
        user_id = participant.user_id if asked is None else asked
        if user_id not in self._participants:
            return error_to(message, ErrorCode(ErrorReason.USER_DOES_NOT_EXIST))
        held: tuple[Attribute, ...] = ()
        if self._holder is not None and self._holder.user_id == user_id:
            held = (self._information(self._holder.request_id, RequestState.GRANTED),)
        beneficiary = Group(AttributeType.BENEFICIARY_INFORMATION, user_id)
        return self._response(message, Primitive.USER_STATUS, beneficiary, *held)

    def _chair_action(self, _participant: _Participant, message: Message, _now: float) -> Message:
        words = "this meeting's chair acts by its own means"
        return error_to(message, ErrorCode(ErrorReason.UNAUTHORIZED_OPERATION), words)

    def _goodbye(self, participant: _Participant, message: Message, now: float) -> Message:
        participant.follows = False
        participant.line.forget()
        if self._holder is not None and self._holder.user_id == participant.user_id:
            self._released(participant.user_id, now)
        elif participant.asked is not None:
            self._events.append(FloorReleased(participant.user_id))  # it may be decided this very moment
        participant.asked = None
        draft = message.primitive == _DRAFT_GOODBYE
        return self._response(message, _DRAFT_GOODBYE_ACK if draft else Primitive.GOODBYE_ACK)

    # --- the floor -------------------------------------------------------------------------------------

    def _released(self, user_id: int, now: float) -> None:
        self._holder = None
        self._events.append(FloorReleased(user_id))
        self._tell_followers(now)

    def _new_request(self) -> int:
        number = self._next_request
        self._next_request = number % 0xFFFF + 1
        return number

    def _granted(self, user_id: int, request_id: int, now: float) -> None:
        participant = self._participants.get(user_id)
        asked = None if participant is None else participant.asked
        if participant is not None and asked is not None and asked.request_id == request_id:
            self._settle(participant, RequestState.GRANTED, now)

    def _settle(self, participant: _Participant, state: RequestState, now: float, words: str = "") -> None:
        """What became of a request: its answer, or after PENDING an announcement."""
        asked, participant.asked = participant.asked, None
        if asked is None:
            return
        if asked.message is None:
            self._tell_of_request(participant.user_id, asked.request_id, state, now, words)
            return
        status = self._request_status(asked.message, asked.request_id, state, words)
        participant.line.respond(asked.message, status, now)

    def _tell_of_request(
        self, user_id: int, request_id: int, state: RequestState, now: float, words: str = ""
    ) -> None:
        participant = self._participants.get(user_id)
        if participant is not None:
            information = self._information(request_id, state, words=words)
            self._announce(participant, Primitive.FLOOR_REQUEST_STATUS, (information,), now)

    def _tell_followers(self, now: float) -> None:
        for participant in self._participants.values():
            if participant.follows:
                self._announce(participant, Primitive.FLOOR_STATUS, self._floor_status(), now)

    def _floor_status(self) -> tuple[Attribute, ...]:
        floor = Number(AttributeType.FLOOR_ID, self.floor_id)
        if self._holder is None:
            return (floor,)
        extra: tuple[Attribute, ...] = ()
        if self._holder.user_id is not None:
            extra = (Group(AttributeType.BENEFICIARY_INFORMATION, self._holder.user_id),)
        return floor, self._information(self._holder.request_id, RequestState.GRANTED, extra)

    def _information(
        self, request_id: int, state: RequestState, extra: tuple[Attribute, ...] = (), words: str = ""
    ) -> Group:
        """FLOOR-REQUEST-INFORMATION (5.2.15)."""
        info: tuple[Attribute, ...] = (Text(AttributeType.STATUS_INFO, words[:60]),) if words else ()
        status = (RequestStatus(int(state)), *info)
        overall = Group(AttributeType.OVERALL_REQUEST_STATUS, request_id, status)
        floor = Group(AttributeType.FLOOR_REQUEST_STATUS, self.floor_id)
        return Group(AttributeType.FLOOR_REQUEST_INFORMATION, request_id, (overall, floor, *extra))

    # --- messages of ours --------------------------------------------------------------------------------

    def _announce(
        self, participant: _Participant, primitive: Primitive, attributes: tuple[Attribute, ...], now: float
    ) -> None:
        if not participant.line.announce(primitive, attributes, now):
            self._events.append(ParticipantUnreachable(participant.user_id))

    def _request_status(
        self, message: Message, request_id: int | None, state: RequestState, words: str = ""
    ) -> Message:
        information = self._information(request_id or 0, state, words=words)
        return self._response(message, Primitive.FLOOR_REQUEST_STATUS, information)

    def _response(self, asked: Message, primitive: int, *attributes: Attribute) -> Message:
        return _answer_to(asked, primitive, attributes)


def error_to(asked: Message | Header, code: ErrorCode, words: str = "") -> Message:
    """The Error that answers a request (13.8)."""
    info = (Text(AttributeType.ERROR_INFO, words),) if words else ()
    return _answer_to(asked, Primitive.ERROR, (code, *info))


def _answer_to(asked: Message | Header, primitive: int, attributes: tuple[Attribute, ...]) -> Message:
    """In the version of the request, where that is one of ours."""
    version = asked.version if asked.version in TAKEN_OVER_DATAGRAMS else OVER_DATAGRAMS
    return Message(
        primitive,
        asked.conference_id,
        asked.transaction_id,
        asked.user_id,
        attributes,
        responder=True,
        version=version,
    )


def _is_repeated(participant: _Participant, header: Header) -> bool:
    """Whether this is once more the request that is not decided yet."""
    message = None if participant.asked is None else participant.asked.message
    return (
        message is not None
        and not participant.reliable
        and (message.version, message.transaction_id, message.primitive)
        == (header.version, header.transaction_id, header.primitive)
    )
