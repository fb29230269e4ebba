from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sip.framing import Framed, FramingEvent, FramingLost, KeepAlive, StreamFramer
from protocols.sip.message import Headers, Request, parse_message
from tests.protocols.sip.samples import request


def whole(body: bytes, method: str = "INFO") -> bytes:
    return Request(method, "sip:a@h", request(method).headers, body).to_bytes()


STREAM = (
    whole(b"one") + b"\r\n\r\n" + whole(b"") + whole(b"x" * 300, "MESSAGE") + b"\r\n" + whole(b"\r\n\r\n")
)


def fed(pieces: list[bytes], framer: StreamFramer | None = None) -> list[FramingEvent]:
    framer = framer or StreamFramer()
    return [event for piece in pieces for event in framer.feed(piece)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_split_anywhere_the_messages_are_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    events = fed(pieces)
    bodies = [parse_message(event.data).body for event in events if isinstance(event, Framed)]
    assert bodies == [b"one", b"", b"x" * 300, b"\r\n\r\n"]
    assert [event for event in events if not isinstance(event, Framed)] == [KeepAlive.PING, KeepAlive.PONG]


def test_byte_by_byte_and_all_at_once() -> None:
    single = fed([STREAM[at : at + 1] for at in range(len(STREAM))])
    assert single == fed([STREAM])
    assert len(single) == 6


def test_bare_line_feeds_compact_and_folded_lengths() -> None:
    data = b"INFO sip:a@h SIP/2.0\nl: 3\n\nabcINFO sip:a@h SIP/2.0\r\nContent-Length:\r\n  2\r\n\r\nde"
    events = fed([data])
    assert [event.data[-3:] for event in events if isinstance(event, Framed)] == [b"abc", b"\nde"]


def test_without_a_length_there_is_no_body_unless_one_is_announced() -> None:
    assert len(fed([b"OPTIONS sip:a@h SIP/2.0\r\nVia: x\r\n\r\n"])) == 1
    (lost,) = fed([b"INVITE sip:a@h SIP/2.0\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"])
    assert lost == FramingLost(
        400,
        "Bad Request: Content-Length is missing on a stream",
        b"INVITE sip:a@h SIP/2.0\r\nContent-Type: application/sdp",
    )


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"INFO sip:a@h SIP/2.0\r\nContent-Length: -1\r\n\r\n", 400),
        (b"INFO sip:a@h SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n", 400),
        (b"INFO sip:a@h SIP/2.0\r\nContent-Length: 999999\r\n\r\n", 513),
        (b"INFO sip:a@h SIP/2.0\r\nX: " + b"y" * 70_000, 513),
    ],
)
def test_a_stream_that_cannot_be_followed_ends_once_and_for_all(head: bytes, status: int) -> None:
    framer = StreamFramer()
    (lost,) = fed([head], framer)
    assert isinstance(lost, FramingLost)
    assert lost.status == status
    assert fed([whole(b"later")], framer) == []
    assert framer.pending == 0


def test_memory_is_bounded_whatever_comes() -> None:
    framer = StreamFramer(max_head=1000, max_body=1000)
    for _ in range(100):
        fed([b"x" * 500], framer)
        assert framer.pending <= 1500


def test_a_large_body_within_bounds_arrives() -> None:
    data = Request("INVITE", "sip:a@h", Headers(), b"z" * 60_000).to_bytes()
    (event,) = fed([data[at : at + 1400] for at in range(0, len(data), 1400)])
    assert event == Framed(data)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_bytes_are_framed_or_lost(pieces: list[bytes]) -> None:
    events = fed(pieces)
    assert sum(isinstance(event, FramingLost) for event in events) <= 1
