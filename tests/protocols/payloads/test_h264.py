"""H.264 payloads: RFC 6184 examples, round trips, losses, parameter sets, SDP parameters."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.payloads import Frame
from protocols.payloads.h264 import (
    H264Packetizer,
    NalType,
    OversizedNal,
    fragment,
    join_byte_stream,
    packetize,
    split_byte_stream,
)
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.h264_fmtp import (
    LEVELS,
    H264Format,
    MalformedFormat,
    Profile,
    ProfileLevel,
    smallest_level,
)
from protocols.payloads.h264_sps import MalformedParameterSet, SequenceParameterSet
from tests.media.coded_pictures import RED, coded

# x264, 1280x720, constrained baseline, level 3.1; and high profile 1920x1080 (1088 cropped), level 4.0.
SPS = bytes.fromhex("6742c01fda014016ec0440000003004000000c83c60ca8")
SPS_1080 = bytes.fromhex("67640028acd940780227e5c044000003000400000300c83c60c658")
PPS = bytes.fromhex("68ce0fc8")


def slice_nal(kind: int, size: int, seed: int = 0) -> bytes:
    """A slice that begins a picture: first_mb_in_slice 0, and no zeros that look like start codes."""
    return (
        bytes([0x60 | kind, 0x88]) + random.Random(seed).randbytes(size).replace(b"\x00", b"\x01") + b"\x80"
    )


def unit(*nals: bytes) -> bytes:
    return join_byte_stream(nals)


others = st.sampled_from([SPS, PPS, b"\x09\xf0", b"\x06\x05\x01\x41\x80"])


@st.composite
def access_units(draw: st.DrawFn) -> bytes:
    """Any mixture of units before slices, the first of which begins the picture."""
    kind = 0x60 | draw(st.sampled_from([1, 5]))
    bodies = draw(st.lists(st.binary(max_size=400), min_size=1, max_size=4))
    slices = [
        bytes([kind, 0x40 if index else 0x80, index + 1]) + body.replace(b"\x00", b"\x01") + b"\x80"
        for index, body in enumerate(bodies)
    ]
    return unit(*draw(st.lists(others, max_size=3)), *slices)


def feed(depacketizer: H264Depacketizer, payloads: list[bytes], timestamp: int) -> list[Frame]:
    frames: list[Frame] = []
    for index, payload in enumerate(payloads):
        frames += depacketizer.push(payload, timestamp, index == len(payloads) - 1)
    return frames


@given(st.lists(access_units(), min_size=1, max_size=5), st.integers(20, 300), st.booleans())
def test_frames_come_back_whole(frames: list[bytes], max_payload: int, markers: bool) -> None:
    depacketizer = H264Depacketizer([SPS, PPS])
    out: list[Frame] = []
    for number, frame in enumerate(frames):
        payloads = packetize(frame, 1, max_payload)
        assert all(len(payload) <= max_payload for payload in payloads)
        for index, payload in enumerate(payloads):
            out += depacketizer.push(payload, number * 3000, markers and index == len(payloads) - 1)
    out += depacketizer.flush()
    assert [frame.timestamp for frame in out] == [number * 3000 for number in range(len(frames))]
    for frame, sent in zip(out, frames, strict=True):
        nals = split_byte_stream(frame.data)
        sent_nals = split_byte_stream(sent)
        assert [nal for nal in nals if nal in sent_nals] == sent_nals
        assert not frame.damaged
        assert frame.keyframe == any(nal[0] & 0x1F == 5 for nal in sent_nals)
        if frame.keyframe:
            assert SPS in nals
            assert PPS in nals
        else:
            assert nals == sent_nals


@given(
    st.lists(access_units(), min_size=1, max_size=6), st.integers(20, 80), st.randoms(use_true_random=False)
)
def test_losses_are_never_taken_for_whole_frames(frames: list[bytes], size: int, rng: random.Random) -> None:
    depacketizer = H264Depacketizer([SPS, PPS])
    out: list[Frame] = []
    lost = False
    frames.append(unit(slice_nal(1, 5)))  # comes whole, so that every loss is seen
    for number, frame in enumerate(frames):
        payloads = packetize(frame, 1, size)
        for index, payload in enumerate(payloads):
            if rng.random() < 0.2 and number < len(frames) - 1:
                lost = True
                continue
            out += depacketizer.push(payload, number * 3000, index == len(payloads) - 1, after_loss=lost)
            lost = False
    out += depacketizer.flush()
    for frame in out:
        sent = [n for n in split_byte_stream(frames[frame.timestamp // 3000]) if 1 <= n[0] & 0x1F <= 5]
        got = [n for n in split_byte_stream(frame.data) if 1 <= n[0] & 0x1F <= 5]
        assert all(nal in sent for nal in got)
        assert frame.damaged or got == sent


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 3), st.booleans(), st.booleans()), max_size=30)
)
def test_any_payloads_are_survived(pushes: list[tuple[bytes, int, bool, bool]]) -> None:
    depacketizer = H264Depacketizer()
    for payload, timestamp, marker, after_loss in pushes:
        for frame in depacketizer.push(payload, timestamp, marker, after_loss):
            assert split_byte_stream(frame.data)
    depacketizer.flush()
    assert depacketizer.flush() == []


def test_stap_a_bytes_of_rfc_6184() -> None:
    # 5.7.1: F and NRI of the gathered units, then two-byte sizes.
    payloads = packetize(unit(b"\x67\x42\x00\x0a", b"\x28\xce", slice_nal(5, 10)), 1)
    assert payloads[0] == bytes.fromhex("7800046742000a000228ce")
    assert payloads[1] == slice_nal(5, 10)


def test_fu_a_bytes_of_rfc_6184() -> None:
    # 5.8: indicator with the NRI of the unit and type 28; header with S, E and its type.
    nal = b"\x65\x88" + bytes(range(1, 30))
    assert fragment(nal, 12) == [
        b"\x7c\x85\x88" + bytes(range(1, 10)),
        b"\x7c\x05" + bytes(range(10, 20)),
        b"\x7c\x45" + bytes(range(20, 30)),
    ]


def test_fragments_are_of_one_size_but_the_last() -> None:
    payloads = packetize(unit(slice_nal(5, 5000)), 1, 1200)
    assert {len(payload) for payload in payloads[:-1]} == {1200}
    assert len(payloads[-1]) < 1200


def test_mode_0_sends_single_nal_units_or_says_what_is_too_large() -> None:
    nals = [SPS, PPS, slice_nal(5, 700), slice_nal(5, 600)]
    assert packetize(unit(*nals), 0) == nals
    with pytest.raises(OversizedNal) as refused:
        H264Packetizer(0, 500).packetize(unit(*nals))
    assert (refused.value.size, refused.value.limit) == (703, 500)


def test_three_byte_start_codes_and_trailing_zeros() -> None:
    data = b"\x00\x00\x01\x09\xf0\x00\x00\x00\x01\x65\x88\x84\x00\x00"
    assert split_byte_stream(data) == [b"\x09\xf0", b"\x65\x88\x84"]
    with pytest.raises(ValueError, match="start code"):
        split_byte_stream(b"\x65\x88")


def test_stap_b_and_fu_b_are_understood() -> None:
    depacketizer = H264Depacketizer()
    stap = b"\x79\x00\x01" + len(SPS).to_bytes(2, "big") + SPS + len(PPS).to_bytes(2, "big") + PPS
    assert depacketizer.push(stap, 0, False) == []
    first = b"\x7d\x85\x00\x02\x88\x11"
    assert depacketizer.push(first, 0, False) == []
    assert depacketizer.push(b"\x7c\x45\x22\x80", 0, True) == [
        Frame(unit(SPS, PPS, b"\x65\x88\x11\x22\x80"), 0, keyframe=True)
    ]


def test_a_broken_nal_is_dropped_and_the_frame_flagged() -> None:
    nal = slice_nal(5, 300, seed=1)
    whole = slice_nal(5, 20, seed=2)
    pieces = fragment(nal, 100)
    depacketizer = H264Depacketizer([SPS, PPS])
    depacketizer.push(whole, 0, False)
    depacketizer.push(pieces[0], 0, False)
    frames = depacketizer.push(pieces[2], 0, True, after_loss=True)
    assert frames == [Frame(unit(SPS, PPS, whole), 0, keyframe=True, damaged=True)]


def test_a_loss_just_before_a_keyframe_leaves_it_whole() -> None:
    depacketizer = H264Depacketizer()
    feed(depacketizer, [slice_nal(1, 10)], 0)
    frames = depacketizer.push(SPS, 6000, False, after_loss=True)
    frames += depacketizer.push(PPS, 6000, False)
    frames += depacketizer.push(slice_nal(5, 9), 6000, True)
    assert frames == [Frame(unit(SPS, PPS, slice_nal(5, 9)), 6000, keyframe=True)]


def test_a_keyframe_whose_own_parameter_sets_were_lost_is_not_trusted() -> None:
    depacketizer = H264Depacketizer()
    (first,) = feed(depacketizer, packetize(unit(SPS, PPS, slice_nal(5, 9)), 1), 0)
    assert not first.damaged
    (second,) = depacketizer.push(slice_nal(5, 9), 3000, True, after_loss=True)
    assert second.damaged


def test_a_keyframe_without_any_parameter_sets_is_damaged() -> None:
    (frame,) = H264Depacketizer().push(slice_nal(5, 9), 0, True)
    assert frame == Frame(unit(slice_nal(5, 9)), 0, keyframe=True, damaged=True)


def test_latest_parameter_sets_go_behind_the_delimiter() -> None:
    depacketizer = H264Depacketizer([SPS, PPS])
    feed(depacketizer, [SPS_1080, slice_nal(5, 9)], 0)
    (frame,) = feed(depacketizer, [b"\x09\xf0", slice_nal(5, 9)], 3000)
    assert split_byte_stream(frame.data) == [b"\x09\xf0", SPS_1080, PPS, slice_nal(5, 9)]
    assert depacketizer.parameter_sets == (SPS_1080, PPS)


def test_parameter_sets_with_their_own_marker_join_the_picture() -> None:
    depacketizer = H264Depacketizer()
    assert depacketizer.push(SPS, 0, True) == []
    assert depacketizer.push(PPS, 0, True) == []
    assert depacketizer.push(slice_nal(5, 9), 3000, True) == [
        Frame(unit(SPS, PPS, slice_nal(5, 9)), 3000, keyframe=True)
    ]


def test_a_sender_with_the_marker_on_every_slice_is_found_out() -> None:
    later_slice = b"\x61\x40\x55\x80"  # first_mb_in_slice is 1
    depacketizer = H264Depacketizer()
    out: list[Frame] = []
    for number in range(4):
        for nal in (slice_nal(1, 9, number), later_slice):
            out += depacketizer.push(nal, number * 3000, True)
    out += depacketizer.flush()
    assert [frame.timestamp for frame in out] == [0, 0, 3000, 6000, 9000]
    assert out[1].damaged
    for number, frame in enumerate(out[2:], 1):
        assert frame == Frame(unit(slice_nal(1, 9, number), later_slice), number * 3000, keyframe=False)


def test_a_picture_without_its_end_is_not_whole_where_markers_are_used() -> None:
    depacketizer = H264Depacketizer()
    depacketizer.push(slice_nal(1, 9), 0, True)
    depacketizer.push(slice_nal(1, 9), 3000, False)
    assert depacketizer.flush() == [Frame(unit(slice_nal(1, 9)), 3000, keyframe=False, damaged=True)]


def test_recovery_point_is_reported() -> None:
    # User data first; then recovery_frame_cnt 8 as '0001001', exact_match and what follows it.
    sei = b"\x06\x05\x02\xaa\xbb\x06\x02\x12\x40\x80"
    (frame,) = feed(H264Depacketizer(), [sei, slice_nal(1, 9)], 0)
    assert frame.recovery_point == 8
    assert not frame.keyframe


def test_an_endless_picture_is_bounded() -> None:
    depacketizer = H264Depacketizer(max_size=1000)
    depacketizer.push(b"\x7c\x85" + b"\x88" * 100, 0, False)
    for _ in range(50):
        depacketizer.push(b"\x7c\x05" + b"\x88" * 100, 0, False)
    assert depacketizer.malformed == 1
    for _ in range(1000):
        depacketizer.push(PPS, 0, False)
    frame = depacketizer.push(slice_nal(1, 9), 0, True)[0]
    assert frame.damaged
    assert len(frame.data) < 1000


def test_sps_gives_the_size_of_the_picture() -> None:
    sps = SequenceParameterSet.parse(SPS)
    assert (sps.width, sps.height, sps.profile_level_id) == (1280, 720, "42c01f")
    sps = SequenceParameterSet.parse(SPS_1080)
    assert (sps.width, sps.height, sps.profile_level_id) == (1920, 1080, "640028")
    assert sps.frame_mbs_only


@pytest.mark.parametrize(("b_frames", "reordered"), [(0, 0), (1, 1), (3, 2)])
def test_sps_says_how_many_frames_are_reordered(b_frames: int, reordered: int) -> None:
    (packet, *_) = coded([RED] * 3, b_frames=b_frames)
    (sps,) = (nal for nal in split_byte_stream(packet.data) if nal[0] & 0x1F == NalType.SPS)
    assert SequenceParameterSet.parse(sps).max_num_reorder_frames == reordered
    assert SequenceParameterSet.parse(sps[:12]).max_num_reorder_frames is None, "cut off in its VUI"


def test_sps_after_hrd_and_timing_still_says_it() -> None:
    assert SequenceParameterSet.parse(SPS).max_num_reorder_frames == 0
    assert SequenceParameterSet.parse(SPS_1080).max_num_reorder_frames is not None


@given(st.binary(max_size=40))
def test_any_sps_parses_or_is_malformed(data: bytes) -> None:
    try:
        sps = SequenceParameterSet.parse(b"\x67" + data)
    except MalformedParameterSet:
        return
    assert sps.width > 0
    assert sps.height > 0


@pytest.mark.parametrize(
    ("text", "profile", "level"),
    [
        ("42e01f", Profile.CONSTRAINED_BASELINE, 31),
        ("42001F", Profile.BASELINE, 31),
        ("4d8028", Profile.CONSTRAINED_BASELINE, 40),
        ("4d0028", Profile.MAIN, 40),
        ("640c1f", Profile.CONSTRAINED_HIGH, 31),
        ("640028", Profile.HIGH, 40),
        ("42f00b", Profile.CONSTRAINED_BASELINE, 9),
        ("640009", Profile.HIGH, 9),
        ("42e021", Profile.CONSTRAINED_BASELINE, 32),
        ("58c01e", Profile.CONSTRAINED_BASELINE, 30),
        ("580015", Profile.EXTENDED, 21),
        ("f4001e", Profile.OTHER, 30),
    ],
)
def test_profile_level_id(text: str, profile: Profile, level: int) -> None:
    parsed = ProfileLevel.parse(text)
    assert (parsed.profile, parsed.level, str(parsed)) == (profile, level, text.lower())
    assert parsed.limits is LEVELS[level]


def test_format_parameters_raise_the_level_and_print_back() -> None:
    line = (
        "profile-level-id=42801f; Packetization-Mode=1; max-mbps=245760;max-fs=8192;max-br=5000;"
        "level-asymmetry-allowed=1;sprop-parameter-sets=Z0LAH9oBQBbsBEAAAAMAQAAADIPGDKg=,aM4PyA==;x-odd"
    )
    parsed = H264Format.parse(line)
    assert parsed.packetization_mode == 1
    assert parsed.parameter_sets == (SPS, PPS)
    assert parsed.limits.max_mbps == 245760
    assert parsed.limits.max_br == 14000  # never lower than the level's
    assert parsed.limits.carry(1920, 1080, 30)
    assert not ProfileLevel.parse("42801f").limits.carry(1920, 1080, 5)
    assert H264Format.parse(str(parsed)) == parsed
    assert H264Format.parse("") == H264Format()
    assert str(H264Format()) == "profile-level-id=42000a;packetization-mode=0"


@pytest.mark.parametrize(
    "line", ["profile-level-id=42e0", "max-fs=many", "packetization-mode=3", "max-fs=-1"]
)
def test_bad_format_parameters_are_refused(line: str) -> None:
    with pytest.raises(MalformedFormat):
        H264Format.parse(line)


def test_smallest_level() -> None:
    assert smallest_level(1280, 720, 30) == 31
    assert smallest_level(1920, 1080, 30) == 40
    assert smallest_level(1280, 720, 30, 18_000_000) == 32
    assert smallest_level(176, 144, 15) == 10
    assert smallest_level(20000, 20000, 30) is None


@pytest.mark.parametrize("start", [b"\0\0\1", b"\0\0\0\1"])
@pytest.mark.parametrize("leading", [False, True])
@pytest.mark.parametrize("fragmented", [False, True])
def test_a_byte_stream_in_place_of_a_nal_unit_is_taken_apart(
    start: bytes, leading: bool, fragmented: bool
) -> None:
    picture = slice_nal(5, 900)
    sent = start * leading + start.join((SPS, PPS, picture))
    payloads = fragment(sent, 200) if fragmented and not leading else [sent]
    frames = (
        [
            frame
            for number, payload in enumerate(payloads)
            for frame in H264Depacketizer().push(payload, 0, True)
        ]
        if len(payloads) == 1
        else feed(H264Depacketizer(), payloads, 0)
    )
    (frame,) = frames
    assert frame.data == unit(SPS, PPS, picture)
    assert frame.keyframe
    assert not frame.damaged
