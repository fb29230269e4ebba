"""RTP packets against literal bytes and against themselves."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.rtp.packet import (
    Extension,
    MalformedRtp,
    RtpPacket,
    extension_block,
    header,
    headers,
    unwrap_retransmission,
    wrap_retransmission,
)

u16, u32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
elements = st.lists(st.builds(Extension, st.integers(1, 255), st.binary(max_size=255)), max_size=4)
packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence_number=u16,
    timestamp=u32,
    ssrc=u32,
    payload=st.binary(max_size=64),
    marker=st.booleans(),
    csrcs=st.lists(u32, max_size=15).map(tuple),
    extensions=elements.map(tuple),
    padding=st.integers(0, 255),
)


@given(packets)
def test_printed_packets_parse_back(packet: RtpPacket) -> None:
    assert RtpPacket.parse(bytes(packet)) == packet


@given(packets, st.integers(min_value=0))
def test_cut_packets_are_malformed_or_shorter(packet: RtpPacket, cut: int) -> None:
    data = bytes(packet)
    data = data[: cut % len(data)]
    with contextlib.suppress(MalformedRtp):
        assert bytes(RtpPacket.parse(data)) != bytes(packet)


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    try:
        packet = RtpPacket.parse(data)
    except MalformedRtp:
        return
    assert RtpPacket.parse(bytes(packet)) == packet


def test_literal_packet_with_csrc_marker_and_padding() -> None:
    data = bytes.fromhex("a1e0 0102 0a0b0c0d 11223344 55667788 616263 000003".replace(" ", ""))
    packet = RtpPacket.parse(data)
    assert packet == RtpPacket(
        96, 0x0102, 0x0A0B0C0D, 0x11223344, b"abc", marker=True, csrcs=(0x55667788,), padding=3
    )
    assert bytes(packet) == data


def test_one_byte_extension_example_of_rfc_8285() -> None:
    # 4.2: elements with L=0 and L=1, a padding byte twice, then an element with L=3.
    block = bytes.fromhex("bede000310aa21bbbb000033cccccccc")
    data = bytes.fromhex("90000001000000020000000a") + block + b"payload"
    packet = RtpPacket.parse(data)
    assert packet.extensions == (
        Extension(1, b"\xaa"),
        Extension(2, b"\xbb\xbb"),
        Extension(3, b"\xcc" * 4),
    )
    assert packet.extension(2) == b"\xbb\xbb"
    assert packet.extension(9) is None
    assert packet.payload == b"payload"


def test_two_byte_extension_example_of_rfc_8285() -> None:
    # 4.3: an element without data, one of one byte, a padding byte, one of four bytes.
    data = bytes.fromhex("90000001000000020000000a1000000301000201aa000304bbbbbbbb") + b"p"
    packet = RtpPacket.parse(data)
    assert packet.extensions == (Extension(1, b""), Extension(2, b"\xaa"), Extension(3, b"\xbb" * 4))
    assert packet.payload == b"p"


def test_id_15_ends_one_byte_elements() -> None:
    data = bytes.fromhex("90000001000000020000000abede000210aaf021bbbbbb00")
    assert RtpPacket.parse(data).extensions == (Extension(1, b"\xaa"),)


def test_extension_of_another_profile_is_kept() -> None:
    data = bytes.fromhex("90000001000000020000000aabac000101020304") + b"p"
    packet = RtpPacket.parse(data)
    assert packet.foreign_extension == (0xABAC, b"\x01\x02\x03\x04")
    assert bytes(packet) == data


@given(st.integers(0, 127), st.booleans(), u16, u32, u32, elements)
def test_quick_header_prints_what_the_packet_prints(
    payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, extensions: list[Extension]
) -> None:
    packet = RtpPacket(
        payload_type, sequence, timestamp, ssrc, b"x", marker=marker, extensions=tuple(extensions)
    )
    quick = header(payload_type, marker, sequence, timestamp, ssrc, extension_block(extensions))
    assert quick + b"x" == bytes(packet)


@given(st.booleans(), u16, st.integers(0, 70), elements)
def test_headers_of_a_frame_are_single_headers_in_sequence(
    marker: bool, first: int, count: int, extensions: list[Extension]
) -> None:
    block = extension_block(extensions)
    assert headers(96, marker, first, count, 7, 9, block) == [
        header(96, marker and n == count - 1, (first + n) & 0xFFFF, 7, 9, block) for n in range(count)
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("80", "shorter"),
        ("40000001000000020000000a", "version"),
        ("82000001000000020000000a00000001", "CSRC"),
        ("90000001000000020000000abede0002aabbccdd", "runs past"),
        ("90000001000000020000000abede", "cut off"),
        ("90000001000000020000000abede00013faabbcc", "runs past"),
        ("a0000001000000020000000a0005", "padding"),
        ("a0000001000000020000000a0000", "padding"),
    ],
)
def test_malformed_packets_say_what_is_wrong(data: str, says: str) -> None:
    with pytest.raises(MalformedRtp, match=says):
        RtpPacket.parse(bytes.fromhex(data))


@given(packets)
def test_retransmissions_unwrap_to_the_original(packet: RtpPacket) -> None:
    rtx = RtpPacket(
        99,
        7,
        packet.timestamp,
        0xAAAA,
        wrap_retransmission(packet.payload, packet.sequence_number),
        marker=packet.marker,
    )
    original = unwrap_retransmission(rtx, packet.payload_type, packet.ssrc)
    assert (original.sequence_number, original.payload) == (packet.sequence_number, packet.payload)
    assert (original.payload_type, original.ssrc) == (packet.payload_type, packet.ssrc)
    assert (original.marker, original.timestamp) == (packet.marker, packet.timestamp)


def test_a_retransmission_without_a_number_is_malformed() -> None:
    with pytest.raises(MalformedRtp, match="original sequence number"):
        unwrap_retransmission(RtpPacket(99, 1, 2, 3, b"\x01"), 96, 4)
