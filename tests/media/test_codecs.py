from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from media.codecs import (
    CLOCK,
    VideoCodec,
    VideoDecoder,
    VideoEncoder,
    VideoTarget,
    h264_profile_level,
)
from media.packet import Packet
from media.picture import Picture, Plane

FPS = 25
COLOUR = (81, 90, 240)  # red, BT.601 limited range


def noise(width: int, height: int, seed: int = 1) -> Plane:
    blurred = cv2.GaussianBlur(
        np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8), (0, 0), 2.0
    )
    return np.asarray(cv2.normalize(blurred, blurred, 16, 235, cv2.NORM_MINMAX), np.uint8)


def moving(width: int, height: int, count: int) -> list[Picture]:
    """A pan over a textured plane."""
    wide = noise(width + 4 * count, height)
    pictures = []
    for n in range(count):
        picture = Picture.blank(width, height, COLOUR, n * CLOCK // FPS)
        np.copyto(picture.y, wide[:, 4 * n : 4 * n + width])
        pictures.append(picture)
    return pictures


def target(
    codec: VideoCodec = VideoCodec.H264, bitrate: int = 512_000, **more: int | str | float
) -> VideoTarget:
    width, height = (640, 360) if codec in (VideoCodec.H264, VideoCodec.VP8) else (352, 288)
    return VideoTarget(codec, width, height, FPS, bitrate, **more)  # type: ignore[arg-type]  # keywords of a test


def encode(encoder: VideoEncoder, pictures: list[Picture]) -> list[Packet]:
    return [packet for picture in pictures for packet in encoder.encode(picture)]


def nal_units(data: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.strip(b"\0")]


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_a_picture_survives_each_codec(codec: VideoCodec) -> None:
    size = target(codec)
    pictures = moving(size.width, size.height, 12)
    packets = encode(VideoEncoder(size), pictures)
    assert [packet.pts for packet in packets] == [picture.time for picture in pictures]
    assert [packet.keyframe for packet in packets] == [True] + [False] * 11
    decoder = VideoDecoder(codec)
    assert decoder.needs_keyframe
    decoded = [picture for packet in packets for picture in decoder.decode(packet)]
    assert not decoder.needs_keyframe
    assert [picture.time for picture in decoded] == [picture.time for picture in pictures]
    last = decoded[-1]
    assert (last.width, last.height) == (size.width, size.height)
    assert abs(float(last.u.mean()) - COLOUR[1]) < 5
    assert abs(float(last.v.mean()) - COLOUR[2]) < 5
    assert cv2.PSNR(np.ascontiguousarray(last.y), pictures[-1].y) > 24


def test_cif_samples_are_twelve_by_eleven() -> None:
    (packet,) = encode(VideoEncoder(target(VideoCodec.H263)), moving(352, 288, 1))
    (picture,) = VideoDecoder(VideoCodec.H263).decode(packet)
    assert picture.sample_aspect == pytest.approx(12 / 11)
    assert picture.aspect == pytest.approx(4 / 3)


def test_key_frames_come_on_request_and_not_more_often_than_the_gap() -> None:
    encoder = VideoEncoder(target(min_key_gap=0.4))
    keys = []
    for n, picture in enumerate(moving(640, 360, 60)):
        if n in (30, 31, 32, 33):  # four receivers ask one after another
            encoder.request_key_frame()
        keys += [n for packet in encoder.encode(picture) if packet.keyframe]
    assert keys == [0, 30, 40]
    assert encoder.counts.keys == 3
    assert encoder.counts.pictures == 60


def test_no_frame_bursts_over_its_share_of_the_rate() -> None:
    encoder = VideoEncoder(target(bitrate=1_000_000))
    pictures = moving(640, 360, 75)
    sizes = []
    for n, picture in enumerate(pictures):
        if n == 50:
            encoder.request_key_frame()
        sizes += [len(packet) * 8 for packet in encoder.encode(picture)]
    share = 1_000_000 / FPS
    assert sum(sizes) < 1_000_000 * 3 * 1.05
    assert max(sizes[1:]) < 1.5 * share
    assert sizes[50] < 1.5 * share


def test_the_rate_follows_in_the_running_stream_without_a_key_frame() -> None:
    encoder = VideoEncoder(target(bitrate=1_000_000))
    pictures = moving(640, 360, 100)
    before = encode(encoder, pictures[:50])
    encoder.set_bitrate(400_000)
    after = encode(encoder, pictures[50:])
    assert not any(packet.keyframe for packet in after)
    assert encoder.counts.reopened == 0
    assert sum(map(len, before[25:])) * 8 > 600_000
    assert sum(map(len, after[25:])) * 8 < 420_000
    decoder = VideoDecoder(VideoCodec.H264)
    assert sum(len(decoder.decode(packet)) for packet in before + after) == 100
    assert decoder.counts.errors == 0
    encoder.request_key_frame()
    (key,) = encoder.encode(pictures[-1])
    assert key.keyframe
    assert encoder.counts.reopened == 1  # the rate buffer follows now
    assert len(key) * 8 < 1.6 * 400_000 / FPS


def test_vp8_keeps_to_a_new_rate() -> None:
    encoder = VideoEncoder(target(VideoCodec.VP8, bitrate=800_000))
    pictures = moving(640, 360, 75)
    encode(encoder, pictures[:25])
    encoder.set_bitrate(300_000)
    after = encode(encoder, pictures[25:])
    assert sum(map(len, after[25:])) * 8 < 400_000
    assert after[0].keyframe


def test_slices_fit_receivers_of_packetization_mode_0() -> None:
    encoder = VideoEncoder(target(bitrate=2_000_000, max_slice_bytes=1100))
    for packet in encode(encoder, moving(640, 360, 5)):
        units = nal_units(packet.data)
        assert len(units) > 3
        assert max(map(len, units)) <= 1100


def test_parameter_sets_and_profile_of_each_key_frame() -> None:
    encoder = VideoEncoder(target(profile_level_id="42e01e", min_key_gap=0))
    for picture in moving(640, 360, 3):
        encoder.request_key_frame()
        (packet,) = encoder.encode(picture)
        kinds = {unit[0] & 31: unit for unit in nal_units(packet.data)}
        assert {7, 8, 5} <= kinds.keys()
        profile, constraints, level = kinds[7][1:4]
        assert (profile, level) == (66, 30)
        assert constraints & 0x40  # constrained baseline


@pytest.mark.parametrize(
    ("profile_level_id", "expected"),
    [
        ("42e01f", ("baseline", "3.1")),
        ("42f00b", ("baseline", "1b")),
        ("4D0028", ("main", "4.0")),
        ("64000b", ("high", "1.1")),
        ("58001e", ("baseline", "3.0")),
    ],
)
def test_profile_level_ids(profile_level_id: str, expected: tuple[str, str]) -> None:
    assert h264_profile_level(profile_level_id) == expected


@pytest.mark.parametrize("wrong", ["", "42e0", "zzzzzz", "42e01f00", "7a001f"])
def test_profile_level_ids_that_are_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="profile-level-id"):
        h264_profile_level(wrong)


def test_targets_that_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="even"):
        VideoTarget(VideoCodec.H264, 641, 360, 25, 500_000)
    with pytest.raises(ValueError, match="no size 640x360"):
        VideoTarget(VideoCodec.H261, 640, 360, 25, 500_000)
    with pytest.raises(ValueError, match="352x288 picture came to an encoder of 640x360"):
        VideoEncoder(target()).encode(Picture.blank(352, 288))


def test_a_lost_frame_withholds_pictures_until_the_key_frame() -> None:
    encoder = VideoEncoder(target())
    pictures = moving(640, 360, 40)
    packets = encode(encoder, pictures[:20])
    encoder.request_key_frame()
    packets += encode(encoder, pictures[20:])
    decoder = VideoDecoder(VideoCodec.H264)
    shown: list[int] = []
    for n, packet in enumerate(packets):
        if n == 5:
            packet = Packet(
                packet.data[: len(packet.data) // 2], packet.pts, 0.0, keyframe=False, damaged=True
            )
        shown += [picture.time * FPS // CLOCK for picture in decoder.decode(packet)]
        if n == 10:
            assert decoder.needs_keyframe
    assert shown == [*range(5), *range(20, 40)]
    assert not decoder.needs_keyframe
    assert decoder.counts.errors >= 1
    assert decoder.counts.withheld >= 1


def test_a_source_that_sends_no_key_frame_is_shown_again_after_a_while() -> None:
    packets = encode(VideoEncoder(target()), moving(640, 360, 60))
    decoder = VideoDecoder(VideoCodec.H264)
    shown = []
    for n, packet in enumerate(packets):
        taken = Packet(packet.data, packet.pts, 0.0, keyframe=packet.keyframe, damaged=n == 10)
        shown += [n for _ in decoder.decode(taken)]
    assert shown == [*range(10), *range(10 + VideoDecoder.PATIENCE, 60)]


def test_starting_in_the_middle_shows_nothing_before_the_key_frame() -> None:
    encoder = VideoEncoder(target())
    pictures = moving(640, 360, 30)
    packets = encode(encoder, pictures[:20])[10:]
    encoder.request_key_frame()
    packets += encode(encoder, pictures[20:])
    decoder = VideoDecoder(VideoCodec.H264)
    shown = [picture.time * FPS // CLOCK for packet in packets for picture in decoder.decode(packet)]
    assert shown == list(range(20, 30))


def test_the_loop_filter_is_switched_at_a_key_frame() -> None:
    encoder = VideoEncoder(target(bitrate=150_000, min_key_gap=0, preset="superfast"))
    pictures = moving(640, 360, 10)
    packets = encode(encoder, pictures[:5])
    encoder.request_key_frame()
    packets += encode(encoder, pictures[5:])
    plain, light = VideoDecoder(VideoCodec.H264), VideoDecoder(VideoCodec.H264)
    light.decode(packets[0])
    light.skip_loop_filter = True
    plain.decode(packets[0])
    same = [np.array_equal(plain.decode(packet)[0].y, light.decode(packet)[0].y) for packet in packets[1:]]
    assert same[:4] == [True] * 4
    assert same[5:] == [False] * 4  # unfiltered, and drifting until the next key frame


def test_full_range_pictures_are_brought_to_limited_range() -> None:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = 64, 64, "yuvj420p", Fraction(1, 25)
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "qp": "10"}
    frame = av.VideoFrame.from_numpy_buffer(np.full((96, 64), 255, np.uint8), "yuvj420p")
    (packet,) = context.encode(frame)
    (picture,) = VideoDecoder(VideoCodec.H264).decode(Packet(bytes(packet), 0, 0.0))
    assert abs(int(picture.y[32, 32]) - 235) <= 1
    assert abs(int(picture.u[16, 16]) - 240) <= 1


def test_planes_outlive_the_decoder() -> None:
    packets = encode(VideoEncoder(target()), moving(640, 360, 6))
    decoder = VideoDecoder(VideoCodec.H264)
    pictures = [picture for packet in packets for picture in decoder.decode(packet)]
    sums = [int(picture.y.sum(dtype=np.int64)) for picture in pictures]
    del decoder
    again = VideoDecoder(VideoCodec.H264)
    for packet in packets * 5:
        again.decode(packet)
    assert [int(picture.y.sum(dtype=np.int64)) for picture in pictures] == sums
    assert all(one != other for one, other in pairwise(sums))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(VideoCodec)), st.lists(st.binary(max_size=200), max_size=5))
def test_rubbish_never_raises(codec: VideoCodec, frames: list[bytes]) -> None:
    decoder = VideoDecoder(codec)
    for n, data in enumerate(frames):
        decoder.decode(Packet(data, n, 0.0))
    assert decoder.counts.frames == len(frames)


def test_an_enormous_picture_is_refused() -> None:
    """A sequence parameter set of 16384 x 16384, written by hand (ITU-T H.264 7.3.2.1.1)."""
    bits = "".join(
        (
            f"{66:08b}{0xE0:08b}{62:08b}",  # profile, constraints, level 6.2
            "1",  # seq_parameter_set_id 0
            "1",  # log2_max_frame_num_minus4 0
            "011",  # pic_order_cnt_type 2
            "010",  # max_num_ref_frames 1
            "0",
            "0" * 10 + f"{1024:011b}",  # width in macroblocks - 1 = 1023
            "0" * 10 + f"{1024:011b}",
            "1100",  # frames only, direct 8x8, no cropping, no VUI
            "1",
        )
    )
    bits += "0" * (-len(bits) % 8)
    sps = bytes([0x67]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    usual = encode(VideoEncoder(target()), moving(640, 360, 1))[0]
    units = nal_units(usual.data)
    data = b"".join(b"\0\0\1" + (sps if unit[0] & 31 == 7 else unit) for unit in units)
    decoder = VideoDecoder(VideoCodec.H264)
    assert decoder.decode(Packet(data, 0, 0.0)) == []
    assert decoder.needs_keyframe


def test_empty_frame_does_not_end_a_decoder() -> None:
    decoder = VideoDecoder(VideoCodec.H264)
    packets = encode(VideoEncoder(target()), moving(640, 360, 4))
    shown = [decoder.decode(packet) for packet in (packets[0], Packet(b"", 0, 0.0), *packets[1:])]
    assert [len(pictures) for pictures in shown] == [1, 0, 1, 1, 1]
