"""What a source is learnt to be: above all whether its frames come in the order of showing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mcu_bridge.measured_source import FrameOrder, MeasuredSource
from mcu_bridge.picture_plan import PictureLimits, cannot_forward
from media.packet import Packet
from protocols.payloads.h264 import NalType, split_byte_stream
from protocols.payloads.h264_sps import SequenceParameterSet
from tests.mcu_bridge.rtp_peer import VP8, footage
from tests.media.coded_pictures import RED, coded
from tests.protocols.payloads.coded_pictures import QCIF
from tests.protocols.payloads.coded_pictures import coded as cif_coded

SILENT = SequenceParameterSet(0, 100, 0, 40, 1920, 1080)
"""High profile without a word about the order of frames."""
ROOM = PictureLimits("H264", 9_000_000, 8704, 522_240, frozenset({66, 77, 100}))


def measured(packets: list[Packet]) -> MeasuredSource:
    source = MeasuredSource("H264", lambda: None)
    for packet in packets:
        source.take(packet)
    return source


@pytest.mark.parametrize("b_frames", [0, 2])
def test_parameter_sets_decide_with_the_first_key_frame(b_frames: int) -> None:
    source = measured(coded([RED] * 6, b_frames=b_frames)[:1]).source
    assert source is not None
    assert source.reordered is bool(b_frames)
    assert (cannot_forward(source, ROOM) is None) is (b_frames == 0)


def test_silent_sets_are_not_trusted_until_the_frames_have_shown() -> None:
    order = FrameOrder()
    order.described(SILENT)
    pictures = coded([RED] * 40)
    for packet in pictures[:20]:
        order.observe(packet.pts, packet.data)
    assert order.reordered is None
    for packet in pictures[20:]:
        order.observe(packet.pts, packet.data)
    assert order.reordered is False


def test_b_slices_are_found_whatever_time_stamps_say_and_stay_found() -> None:
    order = FrameOrder()
    order.described(SILENT)
    for number, packet in enumerate(coded([RED] * 8, b_frames=2)[:3]):
        order.observe(number * 3600, packet.data)
    assert order.reordered
    order.described(replace(SILENT, profile_idc=66))
    for number, packet in enumerate(coded([RED] * 50)):
        order.observe(number * 3600, packet.data)
    assert order.reordered, "it does not flap"


def test_time_that_steps_back_is_found_even_against_the_sets() -> None:
    order = FrameOrder()
    order.described(replace(SILENT, max_num_reorder_frames=0))
    frame = coded([RED])[0].data
    for pts in (0, 3600, 7200):
        order.observe(pts, frame)
    assert order.reordered is False
    order.observe(-9_000_000, frame)
    assert order.reordered is False, "a jump is another time line"
    order.observe(-9_003_600, frame)
    assert order.reordered


@pytest.mark.parametrize(("profile", "poc"), [(66, 0), (77, 2)])
def test_what_has_no_b_frames_by_its_sets_is_trusted_at_once(profile: int, poc: int) -> None:
    order = FrameOrder()
    order.described(replace(SILENT, profile_idc=profile, pic_order_cnt_type=poc))
    assert order.reordered is False


def test_an_unproven_source_is_not_forwarded_and_says_so() -> None:
    source = measured(coded([RED] * 2)).source
    assert source is not None
    assert "not known yet" in (cannot_forward(replace(source, reordered=None), ROOM) or "")
    assert "B-frames" in (cannot_forward(replace(source, reordered=True), ROOM) or "")


def test_another_size_in_mid_stream_is_told() -> None:
    told = []
    source = MeasuredSource("H264", lambda: told.append(source.source and source.source.width))
    for size in ((160, 96), (320, 180)):
        for packet in coded([RED] * 3, size=size):
            source.take(packet)
    assert told == [160, 320]
    source.forget()
    source.take(coded([RED] * 3)[1])
    assert source.source is None, "it begins with a key frame"


def test_vp8_has_no_order_to_learn() -> None:
    source = MeasuredSource("VP8", lambda: None)
    data, keyframe = footage(RED, VP8.name, 200_000, (320, 180))[0]
    source.take(Packet(data, 0, 0.0, keyframe))
    assert source.source is not None
    assert (source.source.width, source.source.reordered) == (320, False)


def test_frame_rate_follows_what_is_counted() -> None:
    source = measured(coded([RED] * 2))
    source.follow(1_000_000, 1.0, 12.5)
    assert source.source is not None
    assert source.source.frame_rate == 12.5
    source.follow(1_000_000, 1.5, 12.9)
    assert source.source.frame_rate == 12.5


def test_the_streams_of_this_test_are_what_they_are_said_to_be() -> None:
    (sps,) = (n for n in split_byte_stream(coded([RED], b_frames=2)[0].data) if n[0] & 0x1F == NalType.SPS)
    assert SequenceParameterSet.parse(sps).profile_idc in (77, 100)


@pytest.mark.parametrize(("codec", "coder", "named"), [
    ("H263", "h263", "H263"), ("H263-1998", "h263", "H263"), ("H263-1998", "h263p", "H263-1998"),
    ("H261", "h261", "H261"),
])  # fmt: skip
def test_cif_sources_say_their_size_with_the_key_frame(codec: str, coder: str, named: str) -> None:
    """Baseline pictures may be forwarded in either payload format of H.263; libav's h263p are none."""
    changes: list[None] = []
    source = MeasuredSource(codec, lambda: changes.append(None))
    for number, data in enumerate(cif_coded(coder, QCIF, 2)):
        source.take(Packet(data, 3600 * number, 0.04 * number, keyframe=number == 0))
    assert source.source is not None
    assert (source.source.codec, source.source.width, source.source.height) == (named, 176, 144)
    assert len(changes) == 1
