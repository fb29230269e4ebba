"""H.261 payloads: RFC 4587 headers by their bytes, the macroblock walk, libav's packets, losses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.payloads import Frame
from protocols.payloads.bit_string import BitSpan, join
from protocols.payloads.h261 import (
    GroupStart,
    H261Depacketizer,
    H261Header,
    H261Packetizer,
    MalformedH261,
    group_starts,
    is_keyframe,
    picture_size,
)
from tests.protocols.payloads.coded_pictures import CIF, QCIF, coded, sent_by_libav

# PSC, TR 3, PTYPE 000 1 1 1 (CIF), PEI 0, then GBSC, GN 1, GQUANT 8, GEI 0, MBA 1, MTYPE INTER, CBP 60.
LITERAL = 0b00000000000000010000_00011_000111_0_0000000000000001_0001_01000_0
LITERAL_BITS = 58


def bits(value: int, count: int) -> bytes:
    rest = -count % 8
    return (value << rest).to_bytes((count + rest) // 8, "big")


def pushed(depacketizer: H261Depacketizer, payloads: list[bytes]) -> list[Frame]:
    frames: list[Frame] = []
    for number, payload in enumerate(payloads):
        frames += depacketizer.push(payload, 3000, number == len(payloads) - 1)
    return frames


@pytest.mark.parametrize(
    ("payload", "header"),
    [
        ("01000000ff", H261Header(0, 0)),
        ("02000000ff", H261Header(0, 0, True, False)),
        # SBIT 3, EBIT 5, GOBN 7, MBAP 21, QUANT 9, HMVD -4, VMVD 5.
        ("757aa785ff", H261Header(3, 5, False, True, 7, 21, 9, -4, 5)),
    ],
)
def test_headers(payload: str, header: H261Header) -> None:
    data = bytes.fromhex(payload)
    assert H261Header.parse(data) == header
    assert bytes(header) == data[:4]


@given(st.integers(0, 7), st.integers(0, 7), st.booleans(), st.booleans(), st.integers(0, 15),
       st.integers(0, 31), st.integers(0, 31), st.integers(-16, 15), st.integers(-16, 15))  # fmt: skip
def test_headers_parse_back(
    sbit: int, ebit: int, intra: bool, moved: bool, group: int, mbap: int, quant: int, x: int, y: int
) -> None:
    header = H261Header(sbit, ebit, intra, moved, group, mbap, quant, x, y)
    assert H261Header.parse(bytes(header) + b"x") == header


@pytest.mark.parametrize("payload", ["", "01", "01000000"])
def test_cut_headers(payload: str) -> None:
    with pytest.raises(MalformedH261):
        H261Header.parse(bytes.fromhex(payload))


def test_start_codes_are_found_at_every_bit() -> None:
    assert picture_size(bits(LITERAL, LITERAL_BITS)) == CIF
    for shift in range(8):
        value, count = LITERAL << shift | (1 << shift) - 1, LITERAL_BITS + shift
        picture = bits((0b1011 << count + 8) | (0b10101010 << count) | value, count + 12)
        assert group_starts(picture) == [GroupStart(12, 0), GroupStart(12 + 32, 1)]


@pytest.mark.parametrize("size", [QCIF, CIF])
def test_encoded_pictures_have_their_groups(size: tuple[int, int]) -> None:
    wanted = [0, 1, 3, 5] if size == QCIF else list(range(13))
    for number, picture in enumerate(coded("h261", size)):
        assert [start.number for start in group_starts(picture)] == wanted
        assert picture_size(picture) == size
        assert is_keyframe(picture) is (number == 0)


def test_a_key_frame_with_a_macroblock_missing_is_none() -> None:
    picture = coded("h261", QCIF)[0]
    starts = group_starts(picture)
    without_a_group = join(
        [BitSpan.cut(picture, 0, starts[2].bit), BitSpan.cut(picture, starts[3].bit, 8 * len(picture))]
    )
    assert not is_keyframe(without_a_group)
    assert not is_keyframe(picture[: len(picture) * 3 // 4])


@pytest.mark.parametrize("size", [QCIF, CIF])
@pytest.mark.parametrize("room", [1200, 600])
@pytest.mark.parametrize("quality", [2, 8])
def test_pictures_come_back_bit_by_bit(size: tuple[int, int], room: int, quality: int) -> None:
    packetizer, depacketizer = H261Packetizer(room), H261Depacketizer()
    for number, picture in enumerate(coded("h261", size, quality=quality)):
        payloads = packetizer.packetize(picture)
        assert max(map(len, payloads)) <= room
        assert pushed(depacketizer, payloads) == [Frame(picture, 3000, number == 0)]


def test_headers_within_groups_say_what_is_in_effect() -> None:
    """And 0 where a group begins."""
    picture = coded("h261", quality=2)[1]
    headers = [H261Header.parse(payload) for payload in H261Packetizer(600).packetize(picture)]
    inner = [header for header in headers if header.group]
    assert len(inner) > 5
    assert {header.quantizer for header in inner} == {2}
    assert all(0 <= header.predictor <= 31 for header in inner)
    # The film moves by 3 and 2 samples a picture.
    assert sum((header.motion_x, header.motion_y) == (3, 2) for header in inner) > 5
    for header in headers:
        if not header.group:
            assert (header.predictor, header.quantizer, header.motion_x, header.motion_y) == (0, 0, 0, 0)
    for before, header in pairwise(headers):
        assert before.ebit + header.sbit in (0, 8)


def test_libav_sends_what_we_take() -> None:
    pictures = coded("h261", QCIF, quality=10)
    depacketizer = H261Depacketizer()
    frames: list[Frame] = []
    for packet in sent_by_libav("h261", pictures, QCIF, strict="experimental"):
        stamp = int.from_bytes(packet[4:8], "big")
        frames += depacketizer.push(packet[12:], stamp, bool(packet[1] & 0x80))
    assert [frame.data for frame in frames] == list(pictures)
    assert [frame.keyframe for frame in frames] == [True, *[False] * (len(pictures) - 1)]


def test_a_picture_that_begins_within_a_byte_is_moved_to_its_beginning() -> None:
    picture = coded("h261", QCIF)[0]
    value = int.from_bytes(picture, "big")
    shifted = ((0b101 << 8 * len(picture) | value) << 5).to_bytes(len(picture) + 1, "big")
    payloads = [bytes(H261Header(3, 0)) + shifted[:700], bytes(H261Header(0, 5)) + shifted[700:]]
    assert pushed(H261Depacketizer(), payloads) == [Frame(picture, 3000, True)]


def test_after_a_loss_the_next_group_begins_with_a_byte() -> None:
    picture = coded("h261", QCIF, quality=6)[0]
    payloads = H261Packetizer(300).packetize(picture)
    lost = next(n for n, payload in enumerate(payloads) if H261Header.parse(payload).group)
    depacketizer = H261Depacketizer()
    frames: list[Frame] = []
    for number, payload in enumerate(payloads):
        if number != lost:
            frames += depacketizer.push(payload, 0, number == len(payloads) - 1, number == lost + 1)
    assert [frame.damaged for frame in frames] == [True]
    assert [start.number for start in group_starts(frames[0].data)] == [0, 1, 3, 5]
    assert group_starts(frames[0].data)[2].bit % 8 == 0


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_picture_is_whole_or_said_to_be_damaged(data: st.DataObject) -> None:
    pictures = coded("h261", quality=3)
    packets = [
        (payload, 3000 * number, at == len(payloads) - 1)
        for number, picture in enumerate(pictures)
        for payloads in [H261Packetizer(500).packetize(picture)]
        for at, payload in enumerate(payloads)
    ]
    lost = data.draw(st.sets(st.integers(0, len(packets) - 1), max_size=6))
    receiver = H261Depacketizer()
    frames: list[Frame] = []
    missing = False
    for number, (payload, timestamp, marker) in enumerate(packets):
        if number in lost:
            missing = True
            continue
        frames += receiver.push(payload, timestamp, marker, missing)
        missing = False
    frames += receiver.flush()
    spoilt = {packets[number][1] for number in lost}
    for frame in frames:
        if not frame.damaged:
            assert frame.data == pictures[frame.timestamp // 3000]
    whole = {frame.timestamp for frame in frames if not frame.damaged}
    assert whole == {3000 * number for number in range(len(pictures))} - spoilt


@given(st.binary(max_size=400), st.integers(256, 1200))
def test_what_is_no_picture_is_refused_or_split(data: bytes, room: int) -> None:
    picture = bits(LITERAL, LITERAL_BITS)[:-1] + data
    try:
        payloads = H261Packetizer(room).packetize(picture)
    except MalformedH261:
        return
    frames = pushed(H261Depacketizer(), payloads)
    assert [frame.data for frame in frames] == [picture]
