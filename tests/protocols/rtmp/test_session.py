"""RTMP's bytes: AMF0, chunks however split, and the client's side of a session."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.rtmp.amf import MalformedRtmp, decode_amf, encode_amf
from protocols.rtmp.chunks import AUDIO, VIDEO, ChunkReader, Message, chunked
from protocols.rtmp.session import Media, Refused, RtmpSession, Started, parse_rtmp_url

URL = parse_rtmp_url("rtmp://platform.example/app/instance/s3cret?token=t")
SHAKE = 1536

values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(values, max_size=5))
def test_values_come_back(given_values: list[object]) -> None:
    assert decode_amf(encode_amf(*given_values)) == given_values  # type: ignore[arg-type]  # hypothesis makes no closer type


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 2.0**32, "1", None])
def test_a_stream_whose_number_is_none_is_the_servers_fault(number: object) -> None:
    session = RtmpSession(URL, publishing=True)
    session.feed(b"\x03" + bytes(2 * SHAKE))
    made = encode_amf("_result", 4.0, None, number)  # type: ignore[arg-type]  # what no server should say
    with pytest.raises(MalformedRtmp, match="without a number"):
        session.feed(chunked(Message(20, 0, 0, made), 3, 128))


@given(st.binary(max_size=60))
def test_any_bytes_are_values_or_malformed(data: bytes) -> None:
    try:
        decode_amf(data)
    except MalformedRtmp:
        return


@given(
    st.lists(
        st.tuples(st.sampled_from((AUDIO, VIDEO, 20)), st.integers(0, 2**32 - 1), st.binary(max_size=700)),
        max_size=6,
    ),
    st.integers(1, 300),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_messages_come_back_however_the_bytes_are_split(
    given_messages: list[tuple[int, int, bytes]], chunk_size: int, pieces: list[int]
) -> None:
    messages = [Message(kind, 1, time, body) for kind, time, body in given_messages]
    data = b"".join(chunked(one, 4 + number % 2, chunk_size) for number, one in enumerate(messages))
    reader = ChunkReader()
    reader.chunk_size = chunk_size
    found, at, turn = [], 0, 0
    while at < len(data):
        step = pieces[turn % len(pieces)]
        found += reader.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    assert found == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_malformed(data: bytes) -> None:
    try:
        ChunkReader().feed(data)
    except MalformedRtmp:
        return


def test_short_headers_repeat_what_was_said_before() -> None:
    whole = chunked(Message(VIDEO, 1, 1000, b"abcd"), 6, 128)
    same_stream = bytes([0x46]) + (40).to_bytes(3, "big") + (3).to_bytes(3, "big") + bytes([AUDIO]) + b"xyz"
    only_time = bytes([0x86]) + (20).to_bytes(3, "big") + b"uvw"
    nothing = bytes([0xC6]) + b"rst"
    wide = (
        bytes([0x00, 200]) + bytes(3) + (1).to_bytes(3, "big") + bytes([VIDEO]) + struct.pack("<I", 1) + b"q"
    )
    found = ChunkReader().feed(whole + same_stream + only_time + nothing + wide)
    assert [(one.type, one.timestamp, one.body) for one in found] == [
        (VIDEO, 1000, b"abcd"),
        (AUDIO, 1040, b"xyz"),
        (AUDIO, 1060, b"uvw"),
        (AUDIO, 1080, b"rst"),
        (VIDEO, 0, b"q"),
    ]


class Server:
    """The other side of a session, by hand."""

    def __init__(self, session: RtmpSession) -> None:
        self.session = session
        self._reader = ChunkReader()

    def shake(self) -> None:
        first = self.session.take()
        assert (len(first), first[0]) == (1 + SHAKE, 3)
        self.session.feed(b"\x03" + b"s" * SHAKE + first[1:])
        assert self.session._out[:SHAKE] == b"s" * SHAKE
        del self.session._out[:SHAKE]

    def commands(self) -> list[list[object]]:
        return [
            list(decode_amf(one.body)) for one in self._reader.feed(self.session.take()) if one.type == 20
        ]

    def say(self, *said: object, stream: int = 0) -> list[object]:
        body = encode_amf(*said)  # type: ignore[arg-type]  # of a test's own making
        return list(self.session.feed(chunked(Message(20, stream, 0, body), 3, 128)))


def test_a_publisher_says_what_servers_expect_and_is_told_that_it_may() -> None:
    session = RtmpSession(URL, publishing=True)
    server = Server(session)
    server.shake()
    (connect,) = server.commands()
    assert connect[:2] == ["connect", 1.0]
    assert connect[2]["app"] == "app/instance"  # type: ignore[index]  # an object
    assert connect[2]["tcUrl"] == "rtmp://platform.example:1935/app/instance"  # type: ignore[index]  # an object
    assert server.say("_result", 1.0, {}, {"code": "NetConnection.Connect.Success"}) == []
    names = [command[0] for command in server.commands()]
    assert names == ["releaseStream", "FCPublish", "createStream"]
    server.say("_result", 4.0, None, 7.0)
    assert server.commands() == [["publish", 5.0, None, "s3cret?token=t", "live"]]
    started = server.say("onStatus", 0.0, None, {"level": "status", "code": "NetStream.Publish.Start"})
    assert started == [Started()]
    session.send_media(VIDEO, 40, b"picture")
    reader = ChunkReader()
    (sent,) = reader.feed(session.take())
    assert sent == Message(VIDEO, 7, 40, b"picture")


def test_a_refusal_keeps_the_servers_words_and_not_the_key() -> None:
    server = Server(RtmpSession(URL, publishing=True))
    server.shake()
    said = {"level": "error", "code": "NetStream.Publish.BadName", "description": "s3cret is in use"}
    (refused,) = server.say("onStatus", 0.0, None, said)
    assert refused == Refused("the server ended the stream (NetStream.Publish.BadName: ... is in use)")
    (refused,) = server.say("_error", 1.0, None, {"code": "NetConnection.Connect.Rejected"})
    assert refused == Refused("the server refused the connection (NetConnection.Connect.Rejected)")


def test_a_player_gets_media_pings_are_answered_and_what_came_is_acknowledged() -> None:
    session = RtmpSession(URL, publishing=False)
    server = Server(session)
    server.shake()
    server.say("_result", 1.0, {}, {})
    server.say("_result", 4.0, None, 1.0)
    assert server.commands()[-1][0] == "play"
    session.feed(chunked(Message(5, 0, 0, struct.pack("!I", 1000)), 2, 128))
    events = session.feed(chunked(Message(AUDIO, 1, 5, b"a" * 600), 6, 128))
    assert events == [Media(AUDIO, 5, b"a" * 600)]
    session.feed(chunked(Message(4, 0, 0, b"\x00\x06\x00\x00\x00\x2a"), 2, 128))
    found = server._reader.feed(session.take())
    assert [one.type for one in found] == [3, 3, 4]  # half a window came twice
    assert found[2].body == b"\x00\x07\x00\x00\x00\x2a"


def test_a_server_that_speaks_something_else_is_told_apart() -> None:
    session = RtmpSession(URL, publishing=True)
    with pytest.raises(MalformedRtmp, match="does not speak RTMP"):
        session.feed(b"HTTP/1.1 400 Bad Request\r\n".ljust(1 + 2 * SHAKE, b" "))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://a/b/s3cret",
        "rtmp:///app/s3cret",
        "rtmp://host",
        "rtmp://host/s3cret",
        "rtmp://host/s3cret/",
        "rtmp://h:x/a/s3cret",
    ],
)
def test_an_address_that_is_none_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="an RTMP address") as caught:
        parse_rtmp_url(text)
    assert "s3cret" not in str(caught.value)


def test_an_address_of_a_platform() -> None:
    found = parse_rtmp_url("rtmps://[2001:db8::1]/live/key")
    assert (found.host, found.port, found.tls, found.app, found.name) == (
        "2001:db8::1",
        443,
        True,
        "live",
        "key",
    )
    assert found.tc_url == "rtmps://[2001:db8::1]:443/live"
    assert "key" not in repr(found)
