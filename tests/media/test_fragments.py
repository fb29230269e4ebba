"""Streams as fragments: where periods begin, and that sound stays beside its pictures."""

import io
from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest

from media.fragments import Began, FragmentCounts, StreamFragments, UnsupportedFormat
from media.packet import Format, Packet
from media.stream import Stream
from protocols.isobmff.fragmenter import SOUND, MediaFragment
from protocols.isobmff.reader import read_fragments
from protocols.payloads.h264 import H264Packetizer, NalType, join_byte_stream, split_byte_stream
from protocols.payloads.h264_depacketizer import H264Depacketizer
from tests.media.coded_pictures import RED, coded, sound

H264, OPUS = Format("H264", 90_000), Format("OPUS", 48_000, 2)
AAC = Format("MPEG4-GENERIC", 48_000, 2, {"config": "1190"})


def periods(
    packets: list[Packet], heard: list[Packet], fragments: StreamFragments
) -> list[list[MediaFragment]]:
    """The fragments after each Began, fed in the order of arrival."""
    found: list[list[MediaFragment]] = []
    pictures = {id(one) for one in packets}

    def sort(made: Began | MediaFragment) -> None:
        if isinstance(made, Began):
            found.append([])
        else:
            found[-1].append(made)

    for packet in sorted([*packets, *heard], key=lambda one: one.arrival):
        if id(packet) not in pictures:
            fragments.take_sound(packet)
            continue
        for made in fragments.take(packet):
            sort(made)
    for made in fragments.end():
        sort(made)
    return found


def sound_times(period: list[MediaFragment]) -> list[int]:
    """Start of each packet of sound, in 1/48000 s."""
    times = []
    for made in period:
        for run in next(read_fragments(memoryview(made.data))).runs:
            at = run.decode_time
            for sample in run.samples if run.track_id == SOUND else ():
                times.append(at)
                at += sample.duration
    return times


@pytest.mark.parametrize("ahead", [0.0, 0.3])
def test_no_sound_is_lost_where_a_file_is_cut(ahead: float) -> None:
    """Sound that arrives `ahead` of its pictures goes to the file of its time."""
    heard, _ = sound("libopus", 4.0)
    heard = [Packet(one.data, one.pts, one.arrival - ahead, ntp=4e9 + one.pts / 48_000) for one in heard]
    packets = [
        Packet(one.data, one.pts, one.arrival, one.keyframe, ntp=4e9 + one.pts / 90_000)
        for one in coded([RED] * 100, gop=25)
    ]
    fragments = StreamFragments(H264, OPUS, fragment_seconds=0.5, restart_seconds=2.0)
    first, second = periods(packets, heard, fragments)
    one, other = sound_times(first), sound_times(second)
    assert abs(one[0] / 48_000 - ahead) < 0.05  # what came before the pictures began is left out
    assert one == list(range(one[0], 96_000, 960))
    assert other == list(range(0, 96_000, 960))
    assert fragments.counts.malformed == 0


def test_without_wall_clocks_arrival_ties_sound_to_pictures() -> None:
    heard, _ = sound("libopus", 2.0, arrival=100.5)
    fragments = StreamFragments(H264, OPUS, fragment_seconds=0.5)
    (only,) = periods(coded([RED] * 50), heard, fragments)
    assert sound_times(only)[0] == 24_000


@pytest.mark.parametrize("codec", ["libopus", "aac"])
@pytest.mark.parametrize("late", [0.5, 1.3, 60.0])
def test_who_watches_live_does_not_wait_for_sound_that_begins_late(codec: str, late: float) -> None:
    """Pictures that went out without sound get silence: players show none of them before it is there."""
    heard, config = sound(codec, 4.0, arrival=100.0 + late)
    form = OPUS if codec == "libopus" else Format("MPEG4-GENERIC", 48_000, 2, {"config": config.hex()})
    fragments = StreamFragments(H264, form, fragment_seconds=0.5, live=True)
    (only,) = periods(coded([RED] * 100), [one for one in heard if one.arrival < 104], fragments)
    times = sound_times(only)
    assert times[0] == 0
    assert max(after - one for one, after in pairwise(times)) <= 2100, "no hole"
    assert times[-1] > 3.4 * 48_000
    assert fragments.counts.sound == 0


def test_nothing_begins_before_a_key_frame_with_parameter_sets() -> None:
    packets = coded([RED] * 10)
    bare = Packet(b"\0\0\0\1\x65\x88", 0, 100.0, keyframe=True)
    fragments = StreamFragments(H264, None, fragment_seconds=0.5)
    assert fragments.take(packets[3]) == []
    assert fragments.take(bare) == []
    assert fragments.counts == FragmentCounts(taken=2, damaged=1, malformed=1)
    (began,) = fragments.take(packets[0])
    assert isinstance(began, Began)
    assert (began.width, began.height, began.jumped) == (160, 96, False)


def test_garbage_is_counted_and_the_next_key_frame_goes_on() -> None:
    packets = coded([RED] * 50)
    packets[30] = Packet(b"garbage", packets[30].pts, packets[30].arrival, keyframe=False)
    fragments = StreamFragments(H264, None, fragment_seconds=0.5)
    found = periods(packets[:40] + coded([RED] * 10, start=50 * 3600, arrival=102.0), [], fragments)
    assert (fragments.counts.malformed, fragments.counts.damaged) == (1, 9)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("pictures", "heard", "words"),
    [
        (Format("H265", 90_000), None, "H265 pictures"),
        (H264, Format("PCMU", 8000), "PCMU sound"),
        (H264, Format("MPEG4-GENERIC", 48_000), "AAC config"),
    ],
)
def test_what_mp4_cannot_hold_is_named(pictures: Format, heard: Format | None, words: str) -> None:
    with pytest.raises(UnsupportedFormat, match=words):
        StreamFragments(pictures, heard, fragment_seconds=1.0)


def test_aac_is_taken_with_its_config() -> None:
    heard, _ = sound("aac", 2.0)
    fragments = StreamFragments(H264, AAC, fragment_seconds=0.5)
    (only,) = periods(coded([RED] * 50), heard, fragments)
    times = sound_times(only)
    assert times == list(range(times[0], times[-1] + 1, 1024))
    assert len(times) >= 90


def decoded(period: list[MediaFragment], init: bytes) -> list[tuple[int, int]]:
    """Time of each picture in 1/25 s, and its middle's brightness; none is broken."""
    with av.open(io.BytesIO(init + b"".join(one.data for one in period))) as container:
        found = []
        for frame in container.decode(video=0):
            assert not frame.is_corrupt
            planes = frame.to_ndarray()
            assert frame.time is not None
            found.append((round(frame.time * 25), int(planes[48, 80])))
        return found


def open_groups(colours: int) -> list[Packet]:
    """As a camera with open groups sends them: one IDR picture, then I pictures with a recovery point."""
    shades = [(60 + number, 90, 128) for number in range(colours)]
    packets = coded(shades, gop=24, b_frames=2, more=":open-gop=1")
    depacketizer, found = H264Depacketizer(), []
    for packet in packets:
        nals = split_byte_stream(packet.data)
        idr = any(nal[0] & 0x1F == NalType.IDR_SLICE for nal in nals)
        sent = [nal for nal in nals if idr or nal[0] & 0x1F not in (NalType.SPS, NalType.PPS)]
        payloads = H264Packetizer(1).packetize(join_byte_stream(sent))
        for number, payload in enumerate(payloads, 1):
            for frame in depacketizer.push(payload, packet.pts, number == len(payloads)):
                starts = frame.keyframe or frame.recovery_point == 0
                found.append(Packet(frame.data, frame.timestamp, packet.arrival, starts))
    assert sum(b"\0\0\1\x65" in one.data for one in found) == 1
    assert any(later.pts < one.pts for one, later in pairwise(found[5:]) if one.keyframe)
    return found


def test_open_groups_are_cut_at_their_recovery_points_and_every_file_decodes() -> None:
    """H.264 D.2.8; what is shown before such a picture needs the group before: it is in no new file."""
    packets = open_groups(150)
    fragments = StreamFragments(H264, None, fragment_seconds=0.5, restart_seconds=2.0)
    inits: list[bytes] = []
    found: list[list[MediaFragment]] = []
    for made in [made for packet in packets for made in fragments.take(packet)] + fragments.end():
        if isinstance(made, Began):
            inits.append(made.init)
            found.append([])
        else:
            found[-1].append(made)
    assert len(found) == 3
    shown = [decoded(period, init) for period, init in zip(found, inits, strict=True)]
    assert fragments.counts.leading == 2 * 2
    assert sum(len(one) for one in shown) == 150 - fragments.counts.leading
    at = 0
    for period, pictures in zip(found, shown, strict=True):
        for time, bright in pictures:
            assert abs(bright - (60 + at + time)) <= 2
        starts = [one.start for one in period]
        assert starts == sorted(starts)
        at += round(sum(one.duration for one in period) / 3600)
    assert at == 150


def test_a_source_that_refreshes_bit_by_bit_is_cut_at_a_bounded_length() -> None:
    packets = coded([RED] * 150, gop=25, more=":intra-refresh=1")
    packets = [replace(one, keyframe=b"\0\0\1\x65" in one.data) for one in packets]
    assert [one.keyframe for one in packets].count(True) == 1
    fragments = StreamFragments(H264, None, fragment_seconds=0.5, restart_seconds=0.5)
    found = periods(packets, [], fragments)
    lengths = [sum(made.duration for made in one) / 90_000 for one in found]
    assert lengths == [
        pytest.approx(2.52, abs=0.05),
        pytest.approx(2.52, abs=0.05),
        pytest.approx(0.96, abs=0.1),
    ]
    assert all(one[0].keyframe for one in found)


async def test_who_joins_at_an_open_group_gets_nothing_that_it_cannot_decode() -> None:
    stream = Stream("camera", H264)
    packets = open_groups(60)
    key = next(number for number, one in enumerate(packets) if one.keyframe and number > 5)
    early = stream.reader()
    for packet in packets[: key + 5]:
        stream.publish(packet)
    async with stream.reader() as late, early:
        stream.close()
        joined = [packet async for packet in late]
        assert joined[0] is packets[key]
        assert all(packet.pts >= joined[0].pts for packet in joined)
        assert len(joined) == 5 - 2
        assert [packet async for packet in early] == packets[: key + 5], "who was there before gets all"


@pytest.mark.parametrize("codec", ["libopus", "aac"])
def test_sound_that_stops_is_silence_and_comes_back_at_its_time(codec: str) -> None:
    """Players wait for sound that a file announces: packets that stop must not stop the pictures."""
    heard, config = sound(codec, 8.0)
    some = [one for one in heard if not 101 < one.arrival < 105]
    form = OPUS if codec == "libopus" else Format("MPEG4-GENERIC", 48_000, 2, {"config": config.hex()})
    fragments = StreamFragments(H264, form, fragment_seconds=0.5, restart_seconds=3.0)
    inits: list[bytes] = []
    found: list[list[MediaFragment]] = []
    packets = coded([RED] * 200)
    pictures = {id(one) for one in packets}
    for packet in sorted([*packets, *some], key=lambda one: one.arrival):
        if id(packet) not in pictures:
            fragments.take_sound(packet)
            continue
        for made in fragments.take(packet):
            if isinstance(made, Began):
                inits.append(made.init)
                found.append([])
            else:
                found[-1].append(made)
    found[-1] += [one for one in fragments.end() if isinstance(one, MediaFragment)]
    assert len(found) == 3
    loud: list[bool] = []
    for period, init in zip(found, inits, strict=True):
        times = sound_times(period)
        assert max(after - one for one, after in pairwise(times)) <= 2100, "no hole"
        assert times[0] < 4800
        with av.open(io.BytesIO(init + b"".join(one.data for one in period))) as container:
            waves = np.concatenate([one.to_ndarray()[0] for one in container.decode(audio=0)])
        loud += [
            bool(np.abs(waves[at : at + 4800]).max() > 0.05) for at in range(2400, len(waves) - 4800, 24_000)
        ]
    assert loud[:2] == [True] * 2
    assert loud[4:9] == [False] * 5, "silence, also in the file that begins in it"
    assert loud[-3:] == [True] * 3
