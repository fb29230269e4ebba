"""VP8 payloads: RFC 7741 descriptors, round trips, losses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.payloads import Frame
from protocols.payloads.vp8 import (
    MalformedVp8,
    PayloadDescriptor,
    Vp8Depacketizer,
    Vp8Packetizer,
    is_keyframe,
    keyframe_size,
)

KEYFRAME = bytes.fromhex("d0f6039d012a80026801") + bytes(500)
DELTA = b"\xb1\x02\x03" + bytes(100)


@pytest.mark.parametrize(
    ("payload", "descriptor"),
    [
        # RFC 7741 4.6: key frame examples with 7-bit, 15-bit and no picture id.
        ("90800fff", PayloadDescriptor(True, picture_id=15, size=3)),
        ("908081e8ff", PayloadDescriptor(True, picture_id=0x1E8, size=4)),
        ("10ff", PayloadDescriptor(True)),
        ("01ff", PayloadDescriptor(False, partition=1)),
        ("b0e092010780ff", PayloadDescriptor(True, 0, True, 0x1201, 7, 2, 6)),
        ("80100aff", PayloadDescriptor(False, size=3)),
    ],
)
def test_payload_descriptors(payload: str, descriptor: PayloadDescriptor) -> None:
    assert PayloadDescriptor.parse(bytes.fromhex(payload)) == descriptor


@given(
    st.booleans(),
    st.integers(0, 15),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 0x7FFF)),
    st.one_of(st.none(), st.integers(0, 255)),
    st.one_of(st.none(), st.integers(0, 3)),
)
def test_descriptors_parse_back(
    start: bool, partition: int, non_reference: bool, picture: int | None, tl0: int | None, layer: int | None
) -> None:
    printed = bytes(PayloadDescriptor(start, partition, non_reference, picture, tl0, layer))
    parsed = PayloadDescriptor.parse(printed + b"x")
    assert parsed == PayloadDescriptor(start, partition, non_reference, picture, tl0, layer, len(printed))


@pytest.mark.parametrize("payload", ["", "90", "9080", "908081", "10", "90800f"])
def test_cut_descriptors_are_malformed(payload: str) -> None:
    with pytest.raises(MalformedVp8):
        PayloadDescriptor.parse(bytes.fromhex(payload))


@given(
    st.lists(st.binary(min_size=1, max_size=900), min_size=1, max_size=5), st.integers(5, 200), st.booleans()
)
def test_frames_come_back_whole(frames: list[bytes], max_payload: int, markers: bool) -> None:
    packetizer, depacketizer = Vp8Packetizer(0x7FFE, max_payload), Vp8Depacketizer()
    out: list[Frame] = []
    for number, frame in enumerate(frames):
        payloads = packetizer.packetize(frame)
        assert {len(payload) for payload in payloads[:-1]} <= {max_payload}
        for index, payload in enumerate(payloads):
            assert PayloadDescriptor.parse(payload).picture_id == (0x7FFE + number) & 0x7FFF
            out += depacketizer.push(payload, number * 3000, markers and index == len(payloads) - 1)
    out += depacketizer.flush()
    assert out == [Frame(data, n * 3000, not data[0] & 1) for n, data in enumerate(frames)]


@given(
    st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6), st.randoms(use_true_random=False)
)
def test_losses_are_never_taken_for_whole_frames(frames: list[bytes], rng: random.Random) -> None:
    packetizer, depacketizer = Vp8Packetizer(0, 30), Vp8Depacketizer()
    out: list[Frame] = []
    lost = False
    frames.append(DELTA)  # comes whole, so that every loss is seen
    for number, frame in enumerate(frames):
        payloads = packetizer.packetize(frame)
        for index, payload in enumerate(payloads):
            if rng.random() < 0.2 and number < len(frames) - 1:
                lost = True
                continue
            out += depacketizer.push(payload, number * 3000, index == len(payloads) - 1, after_loss=lost)
            lost = False
    for frame in out:
        assert frame.damaged or frame.data == frames[frame.timestamp // 3000]
    assert not out[-1].damaged  # its beginning came: the loss was of the one before


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 3), st.booleans(), st.booleans()), max_size=30)
)
def test_any_payloads_are_survived(pushes: list[tuple[bytes, int, bool, bool]]) -> None:
    depacketizer = Vp8Depacketizer()
    for payload, timestamp, marker, after_loss in pushes:
        for frame in depacketizer.push(payload, timestamp, marker, after_loss):
            assert frame.data
    depacketizer.flush()
    assert depacketizer.flush() == []


def test_keyframes_and_their_size() -> None:
    assert is_keyframe(KEYFRAME)
    assert keyframe_size(KEYFRAME) == (640, 360)
    assert not is_keyframe(DELTA)
    assert keyframe_size(DELTA) is None
    assert keyframe_size(KEYFRAME[:8]) is None
    assert not is_keyframe(b"")


def test_an_endless_frame_is_bounded() -> None:
    depacketizer = Vp8Depacketizer(max_size=1000)
    depacketizer.push(b"\x10" + bytes(600), 0, False)
    depacketizer.push(b"\x00" + bytes(600), 0, False)
    (frame,) = depacketizer.push(b"\x00" + bytes(100), 0, True)
    assert frame.damaged
    assert len(frame.data) == 700
    assert depacketizer.malformed == 1
