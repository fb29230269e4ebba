"""Messages and interleaved packets, however the stream was split."""

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.rtsp.framing import Framed, FramingEvent, FramingLost, Interleaved, RtspFramer
from protocols.rtsp.message import MalformedRtsp, Request, Response, parse_message

OPTIONS = Request("OPTIONS", "rtsp://camera/1")
DESCRIBED = Response.of(200, ("CSeq", "2"), body=b"v=0\r\n\r\n$\x00\x00\x01x")


def fed(data: bytes, *cuts: int) -> list[FramingEvent]:
    framer = RtspFramer()
    events: list[FramingEvent] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        events += framer.feed(data[start:end])
    assert framer.pending == 0
    return events


ITEMS = st.lists(
    st.one_of(
        st.builds(Interleaved, st.integers(0, 255), st.binary(max_size=300)),
        st.sampled_from([Framed(bytes(OPTIONS)), Framed(bytes(DESCRIBED))]),
    ),
    min_size=1,
    max_size=6,
)


@given(ITEMS, st.lists(st.integers(0, 4000), max_size=8))
def test_whatever_is_mixed_and_split_comes_out_whole_and_in_order(
    items: list[FramingEvent], cuts: list[int]
) -> None:
    data = b"".join(
        item.data if isinstance(item, Framed) else bytes(item)
        for item in items
        if not isinstance(item, FramingLost)
    )
    assert fed(data, *cuts) == items


def test_byte_by_byte() -> None:
    data = bytes(DESCRIBED) + bytes(Interleaved(1, b"$$$$")) + bytes(OPTIONS)
    assert fed(data, *range(len(data))) == [
        Framed(bytes(DESCRIBED)),
        Interleaved(1, b"$$$$"),
        Framed(bytes(OPTIONS)),
    ]


def test_bare_line_feeds_and_folded_lengths_are_taken() -> None:
    data = b"\n\r\nRTSP/1.0 200 OK\nCSeq: 3\ncontent-length:\n 4\n\nbody$\x02\x00\x01z"
    framed, packet = fed(data, 20, 30)
    assert packet == Interleaved(2, b"z")
    assert isinstance(framed, Framed)
    message = parse_message(framed.data)
    assert isinstance(message, Response)
    assert (message.status, message.cseq, message.body) == (200, 3, b"body")


@pytest.mark.parametrize(
    ("data", "foreign"),
    [
        (b"\x16\x03\x01\x02\x00garbage", True),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n\r\n", False),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", False),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", False),
        (b"A" * 40_000, True),
    ],
)
def test_what_cannot_be_followed_is_lost_once_and_then_swallowed(data: bytes, foreign: bool) -> None:
    framer = RtspFramer()
    (event,) = framer.feed(data)
    assert isinstance(event, FramingLost)
    assert event.foreign is foreign
    assert list(framer.feed(bytes(OPTIONS))) == []
    assert framer.pending == 0


@given(st.binary(max_size=400), st.integers(0, 400))
def test_rubbish_never_raises_nor_piles_up(data: bytes, cut: int) -> None:
    framer = RtspFramer(max_head=100, max_body=100)
    for piece in (data[:cut], data[cut:]):
        for event in framer.feed(piece):
            if isinstance(event, Framed):
                with suppress(MalformedRtsp):
                    parse_message(event.data)
    assert framer.pending <= 400


def test_messages_of_other_protocols_are_called_that() -> None:
    with pytest.raises(MalformedRtsp, match="another protocol") as raised:
        parse_message(b"GET / HTTP/1.1\r\n\r\n")
    assert raised.value.foreign
    with pytest.raises(MalformedRtsp, match="neither"):
        parse_message(b"220 smtp\r\n\r\n")


def test_a_line_break_cannot_be_smuggled_into_a_header() -> None:
    with pytest.raises(ValueError, match="line break"):
        bytes(Response.of(200, ("Session", "1\r\nX: y")))
