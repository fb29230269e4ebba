"""H.263 payloads: RFC 2190 and RFC 4629 headers by their bytes, libav's packets, losses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.payloads import Depacketizer, Frame
from protocols.payloads.h263 import H263Depacketizer, H263Header, H263Packetizer, MalformedH263
from protocols.payloads.h263_picture import (
    MacroblockStart,
    MalformedPicture,
    PictureHeader,
    is_keyframe,
    keyframe_size,
    macroblock_starts,
    start_codes,
)
from protocols.payloads.h263_plus import (
    H263PlusDepacketizer,
    H263PlusHeader,
    H263PlusPacketizer,
    MalformedH263Plus,
)
from tests.protocols.payloads.coded_pictures import CIF, FOUR_CIF, QCIF, coded, sent_by_libav

# PSC, TR 5, PTYPE 10 000 011 0 0000 (CIF, INTRA), PQUANT 10, CPM 0, PEI 0.
INTRA_HEADER = bytes.fromhex("000080160c0a00")
# The same picture, INTER.
INTER_HEADER = bytes.fromhex("000080160e0a00")
# PLUSPTYPE: UFEP 1, custom format; MPPTYPE I; CPM 0; PAR 1, width 320, height 240.
CUSTOM_PICTURE = (
    0b0000000000000000100000_00000101_10000111_001_110000000000001000_000000001_0_0001_001001111_1_000111100
)
CUSTOM_BITS = 22 + 8 + 8 + 3 + 18 + 9 + 1 + 4 + 9 + 1 + 9


def pushed(depacketizer: Depacketizer, payloads: list[bytes], timestamp: int = 3000) -> list[Frame]:
    frames: list[Frame] = []
    for number, payload in enumerate(payloads):
        frames += depacketizer.push(payload, timestamp, number == len(payloads) - 1)
    return frames


# --- the picture ------------------------------------------------------------------------------------------


def test_picture_header_by_its_bits() -> None:
    header = PictureHeader.parse(INTRA_HEADER)
    assert header == PictureHeader(
        3, True, 352, 288, temporal_reference=5, quantizer=10, size=22 + 8 + 13 + 5 + 2
    )
    assert not PictureHeader.parse(INTER_HEADER).intra
    assert (is_keyframe(INTRA_HEADER), is_keyframe(INTER_HEADER)) == (True, False)
    assert (keyframe_size(INTRA_HEADER), keyframe_size(INTER_HEADER)) == (CIF, None)


def test_a_custom_size_is_read_from_plusptype() -> None:
    rest = -CUSTOM_BITS % 8
    picture = (CUSTOM_PICTURE << rest).to_bytes((CUSTOM_BITS + rest) // 8, "big")
    assert keyframe_size(picture) == (320, 240)


@pytest.mark.parametrize(
    "picture", ["", "0000", "00008016", "000084160c0a00", "0000801600000a000000", "deadbeef00"]
)
def test_what_is_no_picture(picture: str) -> None:
    with pytest.raises(MalformedPicture):
        PictureHeader.parse(bytes.fromhex(picture))


@pytest.mark.parametrize("size", [QCIF, CIF, FOUR_CIF])
def test_every_macroblock_of_an_encoder_is_found(size: tuple[int, int]) -> None:
    width, height = size
    for picture in coded("h263", size, 3):
        found = list(macroblock_starts(picture))
        assert len(found) == width // 16 * (height // 16)
        assert [one.bit for one in found] == sorted({one.bit for one in found})
        rows = 2 if size == FOUR_CIF else 1
        assert {one.address for one in found} == set(range(rows * width // 16))
        assert [one.group for one in found] == sorted(one.group for one in found)


def test_motion_predictors_are_what_the_vectors_before_make_them() -> None:
    moving = [list(macroblock_starts(picture)) for picture in coded("h263")[1:]]
    # The film moves by 3 and 2 samples a picture: half samples 6 and 4.
    predicted = [(one.predictor_x, one.predictor_y) for picture in moving for one in picture]
    assert predicted.count((6, 4)) > len(predicted) // 2


# --- RFC 2190 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "header"),
    [
        ("00600000ff", H263Header(0, 0, 3, True)),
        ("1d500000ff", H263Header(3, 5, 2, False)),
        ("006a0000ff", H263Header(0, 0, 3, True, options=5)),
        # Mode B: QUANT 10, GOBN 3, MBA 7, INTER, vectors 5 and -6.
        (
            "a66a180c80ffffff8000000000"[:2] + "6a181c" + "8" + "0bd0000" + "ff",
            H263Header(4, 6, 3, False, 0, MacroblockStart(0, 3, 7, 10, 5, -12), 8),
        ),
    ],
)
def test_rfc_2190_headers(payload: str, header: H263Header) -> None:
    data = bytes.fromhex(payload)
    assert H263Header.parse(data) == header
    assert bytes(header) == data[:-1]


def test_mode_c_is_taken() -> None:
    mode_b = bytes(H263Header(0, 0, 3, False, 0, MacroblockStart(0, 3, 7, 10, 5, -12), 8))
    mode_c = bytes([mode_b[0] | 0x40]) + mode_b[1:] + b"\x00\x00\x00\x21" + b"data"
    parsed = H263Header.parse(mode_c)
    assert (parsed.size, parsed.macroblock) == (12, MacroblockStart(0, 3, 7, 10, 5, -12))


@given(
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(0, 7),
    st.booleans(),
    st.integers(0, 7),
    st.one_of(
        st.none(),
        st.builds(
            MacroblockStart,
            st.just(0),
            st.integers(0, 31),
            st.integers(0, 511),
            st.integers(0, 31),
            st.integers(-64, 63),
            st.integers(-64, 63),
        ),
    ),
)
def test_rfc_2190_headers_parse_back(
    sbit: int, ebit: int, source: int, intra: bool, options: int, macroblock: MacroblockStart | None
) -> None:
    header = H263Header(sbit, ebit, source, intra, options, macroblock, 4 if macroblock is None else 8)
    assert H263Header.parse(bytes(header) + b"x") == header


@pytest.mark.parametrize(
    "payload", ["", "00", "00600000", "80600000000000", "8060000000000000", "c0" + 11 * "00"]
)
def test_cut_rfc_2190_headers(payload: str) -> None:
    with pytest.raises(MalformedH263):
        H263Header.parse(bytes.fromhex(payload))
    depacketizer = H263Depacketizer()
    assert depacketizer.push(bytes.fromhex(payload), 0, marker=True) == []


@pytest.mark.parametrize("size", [QCIF, CIF, FOUR_CIF])
@pytest.mark.parametrize("room", [1200, 400])
def test_pictures_come_back_bit_by_bit(size: tuple[int, int], room: int) -> None:
    packetizer, depacketizer = H263Packetizer(room), H263Depacketizer()
    for number, picture in enumerate(coded("h263", size)):
        payloads = packetizer.packetize(picture)
        assert max(map(len, payloads)) <= room
        assert pushed(depacketizer, payloads) == [Frame(picture, 3000, number == 0)]


def test_what_fits_no_packet_goes_in_mode_b_and_meets_within_bytes() -> None:
    picture = coded("h263")[0]
    headers = [H263Header.parse(payload) for payload in H263Packetizer(400).packetize(picture)]
    assert headers[0] == H263Header(0, headers[0].ebit, 3, True)
    assert len(headers) > 10
    starts = {(one.group, one.address): one for one in macroblock_starts(picture)}
    for before, header in pairwise(headers):
        assert before.ebit + header.sbit in (0, 8)
        assert header.macroblock is not None
        start = starts[header.macroblock.group, header.macroblock.address]
        assert start.bit % 8 == header.sbit
        assert header.macroblock.quantizer == start.quantizer


def test_groups_with_headers_go_in_mode_a() -> None:
    """Two pictures' first groups, glued by hand: an intra picture whose rows begin with GOB headers."""
    pictures = coded("h263", QCIF, quality=20)
    payloads = H263Packetizer(1200).packetize(pictures[1])
    assert all(H263Header.parse(payload).macroblock is None for payload in payloads)


def test_a_picture_with_plusptype_is_not_for_rfc_2190() -> None:
    rest = -CUSTOM_BITS % 8
    picture = (CUSTOM_PICTURE << rest).to_bytes((CUSTOM_BITS + rest) // 8, "big") + bytes(50)
    with pytest.raises(MalformedPicture, match="PLUSPTYPE"):
        H263Packetizer().packetize(picture)


def test_libav_sends_what_we_take_by_rfc_2190() -> None:
    pictures = coded("h263", QCIF)
    depacketizer = H263Depacketizer()
    frames: list[Frame] = []
    for packet in sent_by_libav("h263", pictures, QCIF, rtpflags="rfc2190"):
        stamp = int.from_bytes(packet[4:8], "big")
        frames += depacketizer.push(packet[12:], stamp, bool(packet[1] & 0x80))
    assert [frame.data for frame in frames] == list(pictures)
    assert [frame.keyframe for frame in frames] == [True, *[False] * (len(pictures) - 1)]


def test_mode_a_cut_anywhere_is_taken() -> None:
    """As some terminals send: no groups, no macroblocks, just bytes."""
    picture = coded("h263", QCIF)[0]
    header = bytes(H263Header(0, 0, 2, True))
    payloads = [header + picture[at : at + 500] for at in range(0, len(picture), 500)]
    assert pushed(H263Depacketizer(), payloads) == [Frame(picture, 3000, True)]


# --- RFC 4629 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "header"),
    [
        ("0400ff", H263PlusHeader(True)),
        ("0000ff", H263PlusHeader(False)),
        ("0600a2ff", H263PlusHeader(True, channel=0xA2, size=3)),
        ("042b8016 0c2820ff".replace(" ", ""), H263PlusHeader(True, None, bytes.fromhex("80160c2820"), 3, 7)),
    ],
)
def test_rfc_4629_headers(payload: str, header: H263PlusHeader) -> None:
    data = bytes.fromhex(payload)
    assert H263PlusHeader.parse(data) == header
    assert bytes(header) == data[:-1]


@pytest.mark.parametrize("payload", ["", "04", "0400", "0600a2", "042b8016"])
def test_cut_rfc_4629_headers(payload: str) -> None:
    with pytest.raises(MalformedH263Plus):
        H263PlusHeader.parse(bytes.fromhex(payload))


@pytest.mark.parametrize("codec", ["h263", "h263p"])
def test_rfc_4629_pictures_come_back(codec: str) -> None:
    packetizer, depacketizer = H263PlusPacketizer(500), H263PlusDepacketizer()
    for number, picture in enumerate(coded(codec)):
        payloads = packetizer.packetize(picture)
        assert max(map(len, payloads)) <= 500
        assert payloads[0][0] & 4
        assert pushed(depacketizer, payloads) == [Frame(picture, 3000, number == 0)]


def test_rfc_4629_prefers_to_cut_at_start_codes() -> None:
    group = b"\x00\x00\x84" + b"\x55" * 300
    picture = INTRA_HEADER + b"\x55" * 300 + group * 4
    assert start_codes(picture) == [0, *range(307, 307 + 4 * 303, 303)]
    payloads = H263PlusPacketizer(500).packetize(picture)
    assert [payload[:3] for payload in payloads] == [b"\x04\x00\x80", *[b"\x04\x00\x84"] * 4]


def test_libav_sends_what_we_take_by_rfc_4629() -> None:
    pictures = coded("h263p", QCIF)
    depacketizer = H263PlusDepacketizer()
    frames: list[Frame] = []
    for packet in sent_by_libav("h263p", pictures, QCIF):
        stamp = int.from_bytes(packet[4:8], "big")
        frames += depacketizer.push(packet[12:], stamp, bool(packet[1] & 0x80))
    assert [frame.data for frame in frames] == list(pictures)


def test_a_redundant_header_begins_a_picture_whose_first_packet_was_lost() -> None:
    # Six bits of the header's last byte do not count: 50 bits of header less the 16 zeros.
    header = H263PlusHeader(True, None, INTRA_HEADER[2:], 6)
    depacketizer = H263PlusDepacketizer()
    frames = depacketizer.push(bytes(header) + b"\x84" + b"\x55" * 20, 0, True, after_loss=True)
    assert frames == [Frame(INTRA_HEADER + b"\0\0\x84" + b"\x55" * 20, 0, True, damaged=True, missing=0.5)]


# --- losses -----------------------------------------------------------------------------------------------

FORMATS = (
    (H263Packetizer, H263Depacketizer, "h263"),
    (H263PlusPacketizer, H263PlusDepacketizer, "h263"),
)


@pytest.mark.parametrize(("packetizer", "depacketizer", "codec"), FORMATS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_picture_is_whole_or_said_to_be_damaged(
    packetizer: type[H263Packetizer | H263PlusPacketizer],
    depacketizer: type[H263Depacketizer | H263PlusDepacketizer],
    codec: str,
    data: st.DataObject,
) -> None:
    pictures = coded(codec)
    packets = [
        (payload, 3000 * number, at == len(payloads) - 1)
        for number, picture in enumerate(pictures)
        for payloads in [packetizer(600).packetize(picture)]
        for at, payload in enumerate(payloads)
    ]
    lost = data.draw(st.sets(st.integers(0, len(packets) - 1), max_size=6))
    receiver = depacketizer()
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
    assert receiver.malformed == 0


@pytest.mark.parametrize(("packetizer", "depacketizer", "codec"), FORMATS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_a_peer_sends_is_an_error(
    packetizer: type[H263Packetizer | H263PlusPacketizer],
    depacketizer: type[H263Depacketizer | H263PlusDepacketizer],
    codec: str,
    data: st.DataObject,
) -> None:
    receiver = depacketizer()
    payloads = packetizer(600).packetize(coded(codec, QCIF)[0])
    for _ in range(data.draw(st.integers(1, 8))):
        payload = bytearray(data.draw(st.one_of(st.sampled_from(payloads), st.binary(max_size=40))))
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(0, 255))
        for frame in receiver.push(bytes(payload), data.draw(st.integers(0, 2)), data.draw(st.booleans())):
            assert frame.data
    receiver.flush()
