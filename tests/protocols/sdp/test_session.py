"""Descriptions as peers write them, and the print that every peer can read."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.sdp import Connection, Media, Origin, SdpError, SessionDescription
from protocols.sdp.attributes import Bandwidth, Candidate, Crypto, FormatParameters, RtcpFeedback, rtp_maps

ROOM = b"""v=0
o=room 1 7 IN IP4 192.0.2.1
s=-
c=IN IP4 192.0.2.1
b=AS:1920
t=0 0
m=audio 30000 RTP/AVP 8 101
a=rtpmap:101 telephone-event/8000
a=sendrecv
m=video 30002 RTP/AVP 96 34
b=TIAS:1500000
a=rtpmap:96 H264/90000
a=fmtp:96 profile-level-id=42801f;packetization-mode=0
a=content:main
m=application 9 TCP/BFCP *
a=floorctrl:c-s
"""

words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-", min_size=1, max_size=12)
attributes = st.lists(st.tuples(words, st.none() | words), max_size=4).map(tuple)
medias = st.builds(
    Media,
    media=words,
    port=st.integers(0, 65_535),
    protocol=st.sampled_from(["RTP/AVP", "UDP/TLS/RTP/SAVPF", "TCP/BFCP"]),
    formats=st.lists(st.integers(0, 127).map(str), min_size=1, max_size=4).map(tuple),
    connection=st.none() | st.builds(Connection, st.sampled_from(["192.0.2.9", "2001:db8::1"])),
    bandwidth=st.lists(st.tuples(st.sampled_from(["AS", "TIAS"]), st.integers(0, 10**8)), max_size=2).map(
        tuple
    ),
    attributes=attributes,
)
descriptions = st.builds(
    SessionDescription,
    origin=st.builds(
        Origin, words, st.integers(0, 2**60).map(str), st.integers(0, 2**31), st.just("192.0.2.1")
    ),
    media=st.lists(medias, max_size=4).map(tuple),
    name=words,
    connection=st.none() | st.just(Connection("192.0.2.1")),
    attributes=attributes,
)


@given(descriptions)
def test_what_is_printed_is_read_back_the_same(description: SessionDescription) -> None:
    assert SessionDescription.parse(bytes(description)) == description


@given(st.binary(max_size=400))
def test_any_bytes_give_a_description_or_our_own_error(data: bytes) -> None:
    with suppress(SdpError):
        description = SessionDescription.parse(b"v=0\n" + data)
        assert description.origin is not None


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_any_line_ending_is_taken(ending: bytes) -> None:
    description = SessionDescription.parse(ROOM.replace(b"\n", ending))
    assert [media.media for media in description.media] == ["audio", "video", "application"]
    assert description.origin == Origin("room", "1", 7, "192.0.2.1")


def test_static_payload_types_need_no_rtpmap() -> None:
    audio, video, _ = SessionDescription.parse(ROOM).media
    assert [(m.payload_type, m.name, m.clock_rate) for m in rtp_maps(audio)] == [
        (8, "PCMA", 8000),
        (101, "TELEPHONE-EVENT", 8000),
    ]
    assert [m.name for m in rtp_maps(video)] == ["H264", "H263"]


def test_tias_is_taken_before_as_and_as_counts_kilobits() -> None:
    description = SessionDescription.parse(ROOM)
    assert Bandwidth.of(description) == Bandwidth(1_920_000)
    assert Bandwidth.of(description.media[1]) == Bandwidth(1_500_000)
    assert Bandwidth.of(description.media[0]) is None


def test_formats_glued_to_the_protocol_are_read() -> None:
    """GB/T 28181 devices: m=video 30000 RTP/AVP96."""
    media = SessionDescription.parse(
        b"v=0\no=x 1 1 IN IP4 1.2.3.4\nm=video 30000 RTP/AVP96\ny=0100000001\n"
    ).media[0]
    assert (media.protocol, media.formats, media.other) == ("RTP/AVP", ("96",), (("y", "0100000001"),))


def test_gb18030_names_do_not_stop_us() -> None:
    data = "v=0\no=- 1 1 IN IP4 1.2.3.4\ns=会议室\n".encode("gb18030")
    assert SessionDescription.parse(data).name == "会议室"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with v=0"),
        (b"hello", "line 1"),
        (b"v=0\ns=-\n", "origin"),
        (b"v=0\no=- 1 1 IN IP4 1.2.3.4\nm=audio x RTP/AVP 0\n", "media line"),
        (b"v=0\no=- 1 1 IN IP4 1.2.3.4\nm=audio 70000 RTP/AVP 0\n", "port 70000"),
        (b"v=0\no=- 1 1 IN IP4 1.2.3.4\nc=IN IP9 x\n", "connection line"),
        (b"v=0\no=- 1 1 IN IP4 1.2.3.4\n" + b"m=audio 1 RTP/AVP 0\n" * 33, "33 media lines"),
        (b"v=0\n" + b"a=x\n" * 20_000, "longer than"),
    ],
)
def test_errors_say_what_is_wrong(data: bytes, words: str) -> None:
    with pytest.raises(SdpError, match=words):
        SessionDescription.parse(data)


def test_attribute_values_print_as_they_were_read() -> None:
    for value_type, text in (
        (FormatParameters, "96 profile-level-id=42e01f;packetization-mode=1"),
        (FormatParameters, "101 0-15"),
        (RtcpFeedback, "* ccm fir"),
        (Crypto, "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"),
        (Candidate, "1 1 udp 2130706431 192.0.2.1 49000 typ host"),
    ):
        assert str(value_type.parse(text)) == text


def test_slashes_part_sizes_and_are_letters_of_base64() -> None:
    sets = "Z0LgH5WoFAFu/A==,aM4G/A=="
    parameters = FormatParameters.parse(f"96 packetization-mode=1;sprop-parameter-sets={sets}").parameters
    assert parameters == {"packetization-mode": "1", "sprop-parameter-sets": sets}
    sizes = FormatParameters.parse("34 SQCIF=1/QCIF=1/CIF=2/MAXBR=3840").parameters
    assert sizes == {"sqcif": "1", "qcif": "1", "cif": "2", "maxbr": "3840"}


def test_a_c_string_ends_in_zero() -> None:
    text = (
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        "m=audio 4000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n\0"
    )
    (media,) = SessionDescription.parse(text.encode()).media
    assert [codec.name for codec in rtp_maps(media)] == ["PCMA"]
