"""The floor: asked for, given, taken over, released, revoked; over streams, and over datagrams that are lost
and come twice."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bfcp.attributes import (
    Attribute,
    AttributeType,
    ErrorCode,
    ErrorReason,
    Group,
    Number,
    RequestState,
    RequestStatus,
    Text,
)
from protocols.bfcp.floor_control_server import (
    PENDING_AFTER,
    Event,
    FloorAsked,
    FloorControlServer,
    FloorReleased,
    Holder,
    ParticipantUnreachable,
)
from protocols.bfcp.message import FRAGMENTED, HEADER, OVER_DATAGRAMS, Message, Primitive, parse
from protocols.bfcp.transactions import RETRANSMISSIONS

CONFERENCE, FLOOR = 1111, 3
FLOOR_ID = Number(AttributeType.FLOOR_ID, FLOOR)


class Meeting:
    """A server, and what its participants say and hear; whoever asks gets the floor if it `decides`."""

    def __init__(self, *users: int, reliable: bool = False, decides: bool = True) -> None:
        self.decides = decides
        self.events: list[Event] = []
        self.server = FloorControlServer(conference_id=CONFERENCE, floor_id=FLOOR)
        self.reliable = reliable
        self.now = 100.0
        self.transaction = 0
        for user in users:
            self.server.add(user, reliable=reliable)

    def send(
        self, user: int, primitive: int, *attributes: Attribute, **wrong: int
    ) -> dict[int, list[Message]]:
        self.transaction += 1
        message = Message(
            primitive,
            wrong.get("conference", CONFERENCE),
            wrong.get("transaction", self.transaction),
            wrong.get("sender", user),
            attributes,
            bool(wrong.get("responder")),
            wrong.get("version", OVER_DATAGRAMS),
        )
        self.server.receive(user, message.print(reliable=self.reliable), self.now)
        return self.heard()

    def acknowledge(self, user: int, message: Message) -> dict[int, list[Message]]:
        primitive = {
            Primitive.FLOOR_STATUS: Primitive.FLOOR_STATUS_ACK,
            Primitive.FLOOR_REQUEST_STATUS: Primitive.FLOOR_REQUEST_STATUS_ACK,
        }[Primitive(message.primitive)]
        answer = Message(primitive, CONFERENCE, message.transaction_id, user, responder=True)
        self.server.receive(user, answer.print(), self.now)
        return self.heard()

    def wait(self, seconds: float) -> dict[int, list[Message]]:
        self.now += seconds
        self.server.tick(self.now)
        return self.heard()

    def decide(self) -> None:
        for event in self.server.take_events():
            self.events.append(event)
            if isinstance(event, FloorAsked) and self.decides:
                self.server.assign(Holder(event.user_id, event.request_id), self.now)
            elif isinstance(event, FloorReleased):
                self.server.assign(None, self.now)

    @property
    def holder(self) -> int | None:
        return None if self.server.holder is None else self.server.holder.user_id

    def heard(self) -> dict[int, list[Message]]:
        self.decide()
        found: dict[int, list[Message]] = {}
        for user, data in self.server.take_outgoing():
            found.setdefault(user, []).append(parse(data))
        return found


def state_of(message: Message) -> tuple[int, int]:
    """Request id and state of a FloorRequestStatus or FloorStatus."""
    (information,) = [
        one
        for one in message.attributes
        if isinstance(one, Group) and one.type is AttributeType.FLOOR_REQUEST_INFORMATION
    ]
    (overall,) = [
        one
        for one in information.attributes
        if isinstance(one, Group) and one.type is AttributeType.OVERALL_REQUEST_STATUS
    ]
    status = overall.attributes[0]
    assert isinstance(status, RequestStatus)
    return information.id, status.state


def error_of(message: Message) -> int:
    assert message.primitive == Primitive.ERROR
    code = message.first(ErrorCode)
    assert code is not None
    return code.reason


def test_literal_bytes_of_a_request_and_its_grant() -> None:
    server = FloorControlServer(conference_id=CONFERENCE, floor_id=FLOOR)
    server.add(21, reliable=False)
    server.receive(21, bytes.fromhex("4001 0001 00000457 0007 0015 0504 0003"), 0.0)
    assert (server.take_outgoing(), server.take_events()) == ([], [FloorAsked(21, 1)])
    server.assign(Holder(21, 1), 0.1)
    assert server.take_outgoing() == [
        (
            21,
            bytes.fromhex(
                "5004 0004 00000457 0007 0015"  # a response of version 2: FloorRequestStatus
                "1f10 0001 2508 0001 0b04 0300 2304 0003"
            ),
        )
    ]


def test_hello_says_what_is_supported() -> None:
    meeting = Meeting(21)
    (answer,) = meeting.send(21, Primitive.HELLO)[21]
    assert (answer.primitive, answer.responder) == (Primitive.HELLO_ACK, True)
    assert answer.print()[12:14] == bytes.fromhex("1713")  # SUPPORTED-PRIMITIVES: 17 of them


@pytest.mark.parametrize("reliable", [False, True])
def test_who_asks_last_has_the_floor_and_the_other_is_told(reliable: bool) -> None:
    meeting = Meeting(21, 22, reliable=reliable)
    (first,) = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)[21]
    assert state_of(first) == (1, RequestState.GRANTED)
    heard = meeting.send(22, Primitive.FLOOR_REQUEST, FLOOR_ID)
    assert state_of(heard[22][0]) == (2, RequestState.GRANTED)
    (revoked,) = heard[21]
    assert (revoked.primitive, revoked.responder) == (Primitive.FLOOR_REQUEST_STATUS, False)
    assert state_of(revoked) == (1, RequestState.REVOKED)
    assert bool(revoked.transaction_id) is not reliable  # 0 over streams: nobody acknowledges
    assert meeting.holder == 22
    assert meeting.events == [FloorAsked(21, 1), FloorAsked(22, 2)]


def test_floor_released_is_free_and_followers_hear_of_it() -> None:
    meeting = Meeting(21, 22)
    (status,) = meeting.send(22, Primitive.FLOOR_QUERY, FLOOR_ID)[22]
    assert (status.primitive, status.attributes) == (Primitive.FLOOR_STATUS, (FLOOR_ID,))
    heard = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)
    (told,) = heard[22]
    assert state_of(told) == (1, RequestState.GRANTED)
    meeting.acknowledge(22, told)
    released = meeting.send(21, Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, 1))
    assert state_of(released[21][0]) == (1, RequestState.RELEASED)
    assert released[22][0].attributes == (FLOOR_ID,)
    assert meeting.events == [FloorAsked(21, 1), FloorReleased(21)]
    meeting.acknowledge(22, released[22][0])
    assert meeting.send(22, Primitive.FLOOR_QUERY)[22][0].attributes == ()
    assert 22 not in meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)  # it follows no more


def test_browser_takes_the_floor_and_the_operator_takes_it_back() -> None:
    meeting = Meeting(21)
    meeting.send(21, Primitive.FLOOR_QUERY, FLOOR_ID)
    _granted, status = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)[21]
    meeting.server.assign(Holder(None), meeting.now)
    assert meeting.heard() == {}  # the rest waits until the first is acknowledged
    (revoked,) = meeting.acknowledge(21, status)[21]
    assert state_of(revoked) == (1, RequestState.REVOKED)
    (taken,) = meeting.acknowledge(21, revoked)[21]
    assert taken.primitive == Primitive.FLOOR_STATUS
    assert state_of(taken) == (2, RequestState.GRANTED)
    assert meeting.server.holder == Holder(None, 2)
    meeting.server.assign(Holder(None), meeting.now)  # the same again
    meeting.server.assign(None, meeting.now)
    meeting.server.assign(None, meeting.now)
    (freed,) = meeting.acknowledge(21, taken)[21]
    assert freed.attributes == (FLOOR_ID,)
    assert meeting.acknowledge(21, freed) == {}


def test_goodbye_gives_the_floor_back() -> None:
    meeting = Meeting(21, 22)
    meeting.send(22, Primitive.FLOOR_REQUEST, FLOOR_ID)
    (bye,) = meeting.send(22, Primitive.GOODBYE)[22]
    assert bye.primitive == Primitive.GOODBYE_ACK
    assert (meeting.events, meeting.holder) == ([FloorAsked(22, 1), FloorReleased(22)], None)
    (again,) = meeting.send(22, Primitive.GOODBYE, transaction=meeting.transaction)[22]
    assert again.primitive == Primitive.GOODBYE_ACK


@pytest.mark.parametrize("reliable", [False, True])
def test_what_is_not_decided_at_once_is_pending_and_announced_later(reliable: bool) -> None:
    meeting = Meeting(21, reliable=reliable, decides=False)
    assert meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID) == {}
    if not reliable:
        assert meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, transaction=1) == {}  # sent again
    (pending,) = meeting.wait(PENDING_AFTER)[21]
    assert state_of(pending) == (1, RequestState.PENDING)
    assert (pending.transaction_id, meeting.events) == (1, [FloorAsked(21, 1)])
    request = Number(AttributeType.FLOOR_REQUEST_ID, 1)
    (queried,) = meeting.send(21, Primitive.FLOOR_REQUEST_QUERY, request)[21]
    assert state_of(queried) == (1, RequestState.PENDING)
    meeting.server.assign(Holder(21, 1), meeting.now)
    (granted,) = meeting.heard()[21]
    assert (state_of(granted), granted.responder) == ((1, RequestState.GRANTED), False)


def test_a_denied_request_says_why() -> None:
    meeting = Meeting(21, decides=False)
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)
    meeting.server.deny(21, 7, "of another request", meeting.now)
    meeting.server.deny(21, 1, "a lecture is on", meeting.now)
    (denied,) = meeting.heard()[21]
    assert state_of(denied) == (1, RequestState.DENIED)
    assert b"a lecture is on" in denied.print()
    meeting.server.deny(21, 1, "twice", meeting.now)
    assert meeting.heard() == {}


def test_a_request_may_be_taken_back_before_it_is_decided() -> None:
    meeting = Meeting(21, decides=False)
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)
    first, second = meeting.send(21, Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, 1))[21]
    assert state_of(first) == (1, RequestState.PENDING)
    assert state_of(second) == (1, RequestState.CANCELLED)
    assert meeting.events == [FloorAsked(21, 1), FloorReleased(21)]


def test_the_holder_of_an_earlier_process_releases_and_is_revoked_by_its_request() -> None:
    meeting = Meeting(21, 22)
    meeting.server.restore(Holder(21, 9))
    assert meeting.heard() == {}
    heard = meeting.send(22, Primitive.FLOOR_REQUEST, FLOOR_ID)
    assert state_of(heard[21][0]) == (9, RequestState.REVOKED)
    assert state_of(heard[22][0]) == (10, RequestState.GRANTED)
    meeting.server.restore(Holder(21, 65_535))
    released = meeting.send(21, Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, 65_535))
    assert meeting.holder is None
    assert Primitive.ERROR not in {message.primitive for message in released.get(21, [])}


def test_who_asks_for_another_is_refused() -> None:
    meeting = Meeting(21, 22)

    def reason(beneficiary: int) -> int:
        whom = Number(AttributeType.BENEFICIARY_ID, beneficiary)
        return error_of(meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, whom)[21][0])

    assert reason(22) == ErrorReason.UNAUTHORIZED_OPERATION
    assert reason(77) == ErrorReason.USER_DOES_NOT_EXIST
    own = Number(AttributeType.BENEFICIARY_ID, 21)
    assert state_of(meeting.send(21, Primitive.FLOOR_REQUEST, own, FLOOR_ID)[21][0]) == (1, 3)


def test_who_has_the_floor_and_asks_again_keeps_it() -> None:
    meeting = Meeting(21)
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)
    (again,) = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)[21]
    assert state_of(again) == (1, RequestState.GRANTED)
    assert meeting.events == [FloorAsked(21, 1)]


def test_queries() -> None:
    meeting = Meeting(21, 22)
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)
    request = Number(AttributeType.FLOOR_REQUEST_ID, 1)
    assert state_of(meeting.send(22, Primitive.FLOOR_REQUEST_QUERY, request)[22][0]) == (1, 3)
    (user,) = meeting.send(22, Primitive.USER_QUERY, Number(AttributeType.BENEFICIARY_ID, 21))[22]
    assert user.primitive == Primitive.USER_STATUS
    assert state_of(user) == (1, RequestState.GRANTED)
    (own,) = meeting.send(22, Primitive.USER_QUERY)[22]
    assert own.attributes == (Group(AttributeType.BENEFICIARY_INFORMATION, 22),)


def test_what_cannot_be_done_is_an_error_that_says_why() -> None:
    meeting = Meeting(21)
    wrong_floor = Number(AttributeType.FLOOR_ID, 9)
    request = Number(AttributeType.FLOOR_REQUEST_ID, 5)

    def reason(primitive: int, *attributes: Attribute, **wrong: int) -> int:
        return error_of(meeting.send(21, primitive, *attributes, **wrong)[21][0])

    assert reason(Primitive.FLOOR_REQUEST, wrong_floor) == ErrorReason.INVALID_FLOOR_ID
    assert reason(Primitive.FLOOR_REQUEST) == ErrorReason.INVALID_FLOOR_ID
    assert reason(Primitive.FLOOR_QUERY, wrong_floor) == ErrorReason.INVALID_FLOOR_ID
    assert reason(Primitive.FLOOR_RELEASE, request) == ErrorReason.FLOOR_REQUEST_ID_DOES_NOT_EXIST
    assert reason(Primitive.FLOOR_REQUEST_QUERY, request) == ErrorReason.FLOOR_REQUEST_ID_DOES_NOT_EXIST
    assert reason(Primitive.CHAIR_ACTION) == ErrorReason.UNAUTHORIZED_OPERATION
    assert reason(99) == ErrorReason.UNKNOWN_PRIMITIVE
    assert reason(Primitive.HELLO, conference=5) == ErrorReason.CONFERENCE_DOES_NOT_EXIST
    assert reason(Primitive.HELLO, sender=5) == ErrorReason.USER_DOES_NOT_EXIST
    unknown_user = Number(AttributeType.BENEFICIARY_ID, 77)
    assert reason(Primitive.USER_QUERY, unknown_user) == ErrorReason.USER_DOES_NOT_EXIST
    assert meeting.events == []


def test_wrong_version_unknown_attribute_and_broken_payload() -> None:
    meeting = Meeting(21)
    for hexadecimal, reason in (
        ("600b 0000 00000457 0007 0015", ErrorReason.UNSUPPORTED_VERSION),
        ("000b 0000 00000457 0007 0015", ErrorReason.UNSUPPORTED_VERSION),
        ("400b 0001 00000457 0008 0015 c904 abcd", ErrorReason.UNKNOWN_MANDATORY_ATTRIBUTE),
        ("4001 0001 00000457 0009 0015 0508 0003", ErrorReason.UNABLE_TO_PARSE_MESSAGE),
        ("4001 0002 00000457 000b 0015 0504 0003", ErrorReason.INCORRECT_MESSAGE_LENGTH),
    ):
        meeting.server.receive(21, bytes.fromhex(hexadecimal), meeting.now)
        assert error_of(meeting.heard()[21][0]) == reason
    meeting.server.receive(21, b"\x40\x01", meeting.now)
    meeting.server.receive(99, bytes.fromhex("400b 0000 00000457 0007 0063"), meeting.now)
    assert (meeting.heard(), meeting.server.dropped) == ({}, 2)


def test_what_servers_say_is_not_answered() -> None:
    for reliable in (False, True):
        meeting = Meeting(21, reliable=reliable)
        for primitive in (Primitive.ERROR, Primitive.HELLO_ACK):
            assert meeting.send(21, primitive) == {}
        assert meeting.send(21, Primitive.GOODBYE_ACK, responder=1) == {}


@pytest.mark.parametrize("responder", [False, True])  # the R flag's bit, which version 1 does not have
def test_version_1_over_datagrams_is_answered_in_version_1(responder: bool) -> None:
    server = FloorControlServer(conference_id=CONFERENCE, floor_id=FLOOR)
    server.add(21, reliable=False)
    first = "30" if responder else "20"
    server.receive(21, bytes.fromhex(f"{first}0b 0000 00000457 0006 0015"), 0.0)
    ((_, hello),) = server.take_outgoing()
    assert hello[:12] == bytes.fromhex("200c 000a 00000457 0006 0015")
    server.receive(21, bytes.fromhex(f"{first}01 0001 00000457 0007 0015 0504 0003"), 0.0)
    assert server.take_events() == [FloorAsked(21, 1)]
    server.assign(Holder(21, 1), 0.1)
    granted = bytes.fromhex("2004 0004 00000457 0007 0015 1f10 0001 2508 0001 0b04 0300 2304 0003")
    assert server.take_outgoing() == [(21, granted)]
    server.receive(21, bytes.fromhex(f"{first}01 0001 00000457 0007 0015 0504 0003"), 0.2)  # again
    assert (server.take_outgoing(), server.take_events()) == ([(21, granted)], [])
    server.receive(21, bytes.fromhex(f"{first}63 0000 00000457 0008 0015"), 0.2)
    errors = server.take_outgoing()
    if responder:  # a number that we do not know may be a response of a stack that has the flag
        assert errors == []
    else:
        assert errors == [(21, bytes.fromhex("200d 0001 00000457 0008 0015 0d03 0300"))]


def test_the_same_number_in_the_other_version_is_another_request() -> None:
    meeting = Meeting(21)
    heard = [meeting.send(21, Primitive.HELLO, transaction=3, version=v)[21][0].version for v in (3, 1, 2, 1)]
    assert heard == [2, 1, 2, 1]


def test_announcements_have_the_version_that_the_participant_was_heard_with() -> None:
    meeting = Meeting(21, 22, decides=False)
    meeting.send(21, Primitive.FLOOR_QUERY, FLOOR_ID, version=1)
    meeting.server.assign(Holder(None), meeting.now)
    ((user, announced),) = meeting.server.take_outgoing()
    assert (user, announced[:2]) == (21, bytes.fromhex("2008"))
    meeting.send(21, Primitive.HELLO, version=2)
    assert meeting.server.version(21) == 2
    (again,) = meeting.wait(0.5)[21]  # repeated in the version heard since
    assert (again.version, again.attributes) == (2, parse(announced).attributes)
    meeting.send(21, Primitive.HELLO, version=1)
    acknowledgement = Message(Primitive.FLOOR_STATUS_ACK, CONFERENCE, again.transaction_id, 21, version=1)
    meeting.server.receive(21, acknowledgement.print(), meeting.now)  # without R, known by its number
    assert meeting.wait(60) == {}
    assert meeting.events == []


def test_a_participant_that_was_not_heard_is_told_in_the_version_of_its_description() -> None:
    server = FloorControlServer(conference_id=CONFERENCE, floor_id=FLOOR)
    server.add(21, reliable=False, follows=True, version=1)
    server.add(22, reliable=False, follows=True)
    server.add(23, reliable=False, follows=True)
    server.suppose_version(22, 1)
    server.receive(23, bytes.fromhex("400b 0000 00000457 0001 0017"), 0.0)
    server.take_outgoing()
    server.suppose_version(23, 1)  # it was heard otherwise
    server.assign(Holder(None), 0.0)
    assert [(user, parse(data).version) for user, data in server.take_outgoing()] == [
        (21, 1),
        (22, 1),
        (23, 2),
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_goodbye_as_the_drafts_number_it_gives_the_floor_back(version: int) -> None:
    meeting = Meeting(21)
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, version=version)
    (bye,) = meeting.send(21, 17, version=version)[21]
    assert (bye.primitive, bye.version, bye.responder) == (18, version, version == 2)
    assert (meeting.events, meeting.holder) == ([FloorAsked(21, 1), FloorReleased(21)], None)


@pytest.mark.parametrize("version", [1, 2])
def test_acknowledgement_as_the_drafts_number_it_is_no_goodbye(version: int) -> None:
    meeting = Meeting(21)
    meeting.send(21, Primitive.FLOOR_QUERY, FLOOR_ID, version=version)
    _, status = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, version=version)[21]
    assert status.primitive == Primitive.FLOOR_STATUS
    for _ in range(2):  # and once more, for what we may have sent twice
        assert meeting.send(21, 16, transaction=status.transaction_id, version=version) == {}
    assert meeting.holder == 21
    assert meeting.wait(60) == {}
    (bye,) = meeting.send(21, Primitive.GOODBYE, transaction=status.transaction_id + 99, version=version)[21]
    assert (bye.primitive, meeting.holder) == (Primitive.GOODBYE_ACK, None)


def test_goodbye_of_one_that_never_acknowledges_is_a_goodbye() -> None:
    meeting = Meeting(21)
    meeting.send(21, Primitive.FLOOR_QUERY, FLOOR_ID)
    _, status = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)[21]
    (bye,) = meeting.send(21, Primitive.GOODBYE, transaction=status.transaction_id + 99)[21]
    assert (bye.primitive, meeting.holder) == (Primitive.GOODBYE_ACK, None)


def in_parts(message: Message, room: int) -> list[bytes]:
    """Datagrams with so many bytes of the payload each (6.2.3)."""
    whole = message.print()
    head, payload = bytes((whole[0] | FRAGMENTED,)) + whole[1 : HEADER.size], whole[HEADER.size :]
    cut = [(at, payload[at : at + room]) for at in range(0, len(payload), room)]
    return [head + struct.pack("!HH", at // 4, len(part) // 4) + part for at, part in cut]


def test_a_request_in_parts_is_one_request() -> None:
    meeting = Meeting(21)
    info = Text(AttributeType.PARTICIPANT_PROVIDED_INFO, "幻灯片" * 20)
    message = Message(Primitive.FLOOR_REQUEST, CONFERENCE, 7, 21, (FLOOR_ID, info))
    parts = in_parts(message, 44)
    assert len(parts) > 3
    for part in (*reversed(parts[1:]), parts[1]):
        meeting.server.receive(21, part, meeting.now)
        assert meeting.heard() == {}
    meeting.server.receive(21, parts[0], meeting.now)
    (granted,) = meeting.heard()[21]
    assert (granted.transaction_id, state_of(granted)) == (7, (1, RequestState.GRANTED))
    for part in parts:  # all of it again: the same answer, no second request
        meeting.server.receive(21, part, meeting.now)
    assert meeting.heard() == {21: [granted]}
    assert meeting.events == [FloorAsked(21, 1)]


def test_literal_bytes_of_two_fragments() -> None:
    meeting = Meeting(21)
    meeting.server.receive(21, bytes.fromhex("4801 0002 00000457 0009 0015 0000 0001 05040003"), meeting.now)
    assert meeting.heard() == {}
    meeting.server.receive(21, bytes.fromhex("4801 0002 00000457 0009 0015 0001 0001 08044000"), meeting.now)
    assert state_of(meeting.heard()[21][0]) == (1, RequestState.GRANTED)
    for wrong in ("0001 0002 05040003", "0002 0001 05040003", "0000 0001 0504", "0000"):
        data = bytes.fromhex(f"4801 0002 00000457 000a 0015 {wrong}")
        meeting.server.receive(21, data, meeting.now)
        assert meeting.heard() == {}
    assert meeting.server.dropped == 4


def test_request_that_comes_twice_is_answered_twice_and_done_once() -> None:
    meeting = Meeting(21, 22)
    (first,) = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, transaction=7)[21]
    meeting.send(22, Primitive.FLOOR_REQUEST, FLOOR_ID, transaction=7)
    meeting.heard()
    assert meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, transaction=7) == {21: [first]}
    assert meeting.holder == 22
    meeting.now += 11  # another request by now
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID, transaction=7)
    assert meeting.holder == 21


def test_announcements_are_sent_again_until_acknowledged_and_in_order() -> None:
    meeting = Meeting(21, 22)
    meeting.send(22, Primitive.FLOOR_QUERY, FLOOR_ID)
    taken = meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)[22][0]
    request = Number(AttributeType.FLOOR_REQUEST_ID, 1)
    assert 22 not in meeting.send(21, Primitive.FLOOR_RELEASE, request)  # waits behind the first
    assert meeting.wait(0.4) == {}
    assert meeting.wait(0.1) == {22: [taken]}
    assert meeting.wait(0.9) == {}
    assert meeting.wait(0.1) == {22: [taken]}
    (freed,) = meeting.acknowledge(22, taken)[22]
    assert freed.attributes == (FLOOR_ID,)
    assert meeting.acknowledge(22, taken) == {}  # once more: of something long done
    assert meeting.acknowledge(22, freed) == {}
    assert meeting.wait(60) == {}


def test_participant_that_never_acknowledges_is_given_up() -> None:
    meeting = Meeting(21, 22)
    meeting.send(22, Primitive.FLOOR_QUERY, FLOOR_ID)
    meeting.send(21, Primitive.FLOOR_REQUEST, FLOOR_ID)
    sent = [meeting.wait(8) for _ in range(RETRANSMISSIONS + 2)]
    assert sum(len(heard) for heard in sent) == RETRANSMISSIONS
    assert meeting.events == [FloorAsked(21, 1), ParticipantUnreachable(22)]


@given(st.integers(0, 2**32), st.floats(0.0, 0.6))
def test_floor_over_a_bad_line(seed: int, loss: float) -> None:
    """Whatever is lost, doubled or late: both ends agree in the end on who has the floor."""
    line = random.Random(seed)
    meeting = Meeting(21, 22)
    meeting.server.receive(
        22, Message(Primitive.FLOOR_QUERY, CONFERENCE, 1, 22, (FLOOR_ID,)).print(), meeting.now
    )
    meeting.heard()
    believed: int | None = None
    for number in range(6):
        user = line.choice([21, 22])
        request = Message(Primitive.FLOOR_REQUEST, CONFERENCE, 100 + number, user, (FLOOR_ID,)).print()
        for _ in range(1 + line.randrange(2)):
            meeting.server.receive(user, request, meeting.now)
            if line.random() < 0.5:
                meeting.decide()
        for _ in range(12):
            meeting.decide()
            meeting.server.tick(meeting.now)
            for to, data in meeting.server.take_outgoing():
                message = parse(data)
                if line.random() < loss or to != 22 or message.responder:
                    continue
                if message.primitive == Primitive.FLOOR_STATUS:
                    holder = [
                        one.id
                        for info in message.attributes
                        if isinstance(info, Group)
                        for one in info.attributes
                        if isinstance(one, Group) and one.type is AttributeType.BENEFICIARY_INFORMATION
                    ]
                    believed = holder[0] if holder else None
                primitive = (
                    Primitive.FLOOR_STATUS_ACK
                    if message.primitive == Primitive.FLOOR_STATUS
                    else Primitive.FLOOR_REQUEST_STATUS_ACK
                )
                answer = Message(primitive, CONFERENCE, message.transaction_id, 22, responder=True)
                for _ in range(1 + line.randrange(2)):
                    meeting.server.receive(22, answer.print(), meeting.now)
            meeting.now += 1.0
    meeting.decide()
    unreachable = [e for e in meeting.events if isinstance(e, ParticipantUnreachable)]
    if not unreachable:
        assert believed == meeting.holder


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_of_a_participant_do_no_harm(messages: list[bytes]) -> None:
    meeting = Meeting(21)
    for data in messages:
        meeting.server.receive(21, data, meeting.now)
        meeting.decide()
        for user, answer in meeting.server.take_outgoing():
            assert user == 21
            parse(answer)
