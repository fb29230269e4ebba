"""BFCP messages against bytes written out by hand from RFC 8855 5, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bfcp.attributes import (
    AttributeType,
    ErrorCode,
    ErrorReason,
    Group,
    MalformedBfcp,
    Number,
    Priority,
    RequestState,
    RequestStatus,
    Supported,
    Text,
    UnknownAttribute,
)
from protocols.bfcp.message import Fragment, Header, Message, Primitive, StreamFramer, parse

FLOOR_REQUEST = bytes.fromhex(
    "40 01 0003 00000457 0007 0015"  # version 2, FloorRequest, 3 words; 1111, 7, 21
    "05 04 0003"  # FLOOR-ID, mandatory, 4 bytes: 3
    "11 07 68 65 6c 6c 6f 00"  # PARTICIPANT-PROVIDED-INFO "hello" with a byte of padding
)
STATUS = bytes.fromhex(
    "50 04 0004 00000457 0007 0015"  # R flag: a response
    "1f 10 0001"  # FLOOR-REQUEST-INFORMATION of request 1, 16 bytes
    "25 08 0001 0b 04 0300"  # OVERALL-REQUEST-STATUS of request 1: REQUEST-STATUS granted, no queue
    "23 04 0003"  # FLOOR-REQUEST-STATUS of floor 3
)
HELLO_TCP = bytes.fromhex("20 0b 0000 00000001 0001 0002")


def test_floor_request_as_the_standard_draws_it() -> None:
    message = parse(FLOOR_REQUEST)
    assert message == Message(
        Primitive.FLOOR_REQUEST,
        1111,
        7,
        21,
        (Number(AttributeType.FLOOR_ID, 3), Text(AttributeType.PARTICIPANT_PROVIDED_INFO, "hello")),
    )
    assert message.numbers(AttributeType.FLOOR_ID) == (3,)
    assert message.print() == FLOOR_REQUEST


def test_floor_request_status_as_the_standard_draws_it() -> None:
    message = parse(STATUS)
    status = RequestStatus(RequestState.GRANTED)
    assert message.responder
    assert message.attributes == (
        Group(
            AttributeType.FLOOR_REQUEST_INFORMATION,
            1,
            (
                Group(AttributeType.OVERALL_REQUEST_STATUS, 1, (status,)),
                Group(AttributeType.FLOOR_REQUEST_STATUS, 3),
            ),
        ),
    )
    assert message.print() == STATUS


def test_over_a_stream_the_version_is_1_and_there_is_no_r_flag() -> None:
    hello = parse(HELLO_TCP)
    assert (hello.primitive, hello.version, hello.attributes) == (Primitive.HELLO, 1, ())
    answer = Message(Primitive.HELLO_ACK, 1, 1, 2, responder=True)
    assert answer.print(reliable=True) == bytes.fromhex("20 0c 0000 00000001 0001 0002")
    assert answer.print() == bytes.fromhex("50 0c 0000 00000001 0001 0002")


def test_attributes_of_the_hello_ack() -> None:
    both = (
        Supported(AttributeType.SUPPORTED_PRIMITIVES, (1, 2, 11)),
        Supported(AttributeType.SUPPORTED_ATTRIBUTES, (2, 5)),
    )
    printed = Message(Primitive.HELLO_ACK, 1, 1, 2, both).print()
    assert printed[12:] == bytes.fromhex("17 05 01 02 0b 000000" + "15 04 04 0a")
    assert parse(printed).attributes == both


def test_error_that_names_unknown_mandatory_attributes() -> None:
    message = parse(bytes.fromhex("40 01 0002 00000001 0001 0002" + "c9 04 abcd" + "c8 03 aa 00"))
    assert message.attributes == (
        UnknownAttribute(100, True, b"\xab\xcd"),
        UnknownAttribute(100, False, b"\xaa"),
    )
    assert message.unknown_mandatory == (100,)
    error = ErrorCode.unknown_attributes(message.unknown_mandatory)
    printed = Message(Primitive.ERROR, 1, 1, 2, (error,)).print()
    assert printed[12:] == bytes.fromhex("0d 04 04 c8")
    assert parse(printed).first(ErrorCode) == error
    assert error.reason == ErrorReason.UNKNOWN_MANDATORY_ATTRIBUTE


def test_priority_is_the_upper_three_bits_and_at_most_4() -> None:
    assert Priority(4).contents() == b"\x80\x00"
    printed = bytes.fromhex("40 01 0001 00000001 0001 0002 09 04 e000")
    assert parse(printed).first(Priority) == Priority(4)


def test_fragment_keeps_its_bytes() -> None:
    printed = bytes.fromhex("48 01 0004 00000001 0001 0002 0001 0002") + bytes(8)
    message = parse(printed)
    assert message.fragment == Fragment(1, 2)
    assert message.payload == bytes(8)


def test_text_is_cut_at_a_whole_character() -> None:
    printed = Message(Primitive.ERROR, 1, 1, 2, (Text(AttributeType.ERROR_INFO, "会" * 100),)).print()
    (text,) = parse(printed).attributes
    assert isinstance(text, Text)
    assert text.value == "会" * 84


@pytest.mark.parametrize(
    ("hexadecimal", "words"),
    [
        ("40 01 0000", "no whole header"),
        ("40 01 0001 00000001 0001 0002", "its header says 4"),
        ("40 01 0000 00000001 0001 0002 05040003", "its header says 0"),
        ("40 01 0001 00000001 0001 0002 05010003", "says it has 1 bytes"),
        ("40 01 0001 00000001 0001 0002 05080003", "says it has 8 bytes"),
        ("40 01 0001 00000001 0001 0002 05030300", "FLOOR_ID has 1 bytes"),
        ("40 01 0001 00000001 0001 0002 0d020000", "ERROR-CODE is empty"),
        ("48 01 0001 00000001 0001 0002", "without offset"),
    ],
)
def test_what_is_wrong_is_said(hexadecimal: str, words: str) -> None:
    with pytest.raises(MalformedBfcp, match=words):
        parse(bytes.fromhex(hexadecimal))


def test_attributes_nested_too_deep() -> None:
    inner = Group(AttributeType.FLOOR_REQUEST_STATUS, 1)
    for _ in range(5):
        inner = Group(AttributeType.FLOOR_REQUEST_STATUS, 1, (inner,))
    with pytest.raises(MalformedBfcp, match="nested"):
        parse(Message(Primitive.FLOOR_STATUS, 1, 1, 2, (inner,)).print())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message = parse(data)
    except MalformedBfcp:
        return
    again = parse(message.print(reliable=message.version == 1))
    if "�" not in repr(message):
        assert again.attributes == message.attributes


@given(st.binary(max_size=120))
def test_any_payload_comes_back(payload: bytes) -> None:
    words = payload[: len(payload) // 4 * 4]
    data = bytes.fromhex("4001") + (len(words) // 4).to_bytes(2, "big") + bytes(8) + words
    try:
        message = parse(data)
    except MalformedBfcp:
        return
    again = parse(message.print())
    if "�" not in repr(message):  # bytes that are no UTF-8 do not come back
        assert again.attributes == message.attributes


@given(st.lists(st.sampled_from([FLOOR_REQUEST, STATUS, HELLO_TCP]), max_size=6), st.data())
def test_stream_cut_anywhere(messages: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    framer, found = StreamFramer(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += framer.feed(whole[start:end])
    assert found == messages


def test_stream_with_a_monstrous_message() -> None:
    with pytest.raises(MalformedBfcp, match="at most 65536"):
        StreamFramer().feed(bytes.fromhex("2001ffff") + bytes(8))


def test_header_alone_is_enough_to_answer() -> None:
    header = Header.parse(FLOOR_REQUEST)
    assert (header.conference_id, header.transaction_id, header.user_id) == (1111, 7, 21)
