"""What we write is read back by ourselves and decoded by ffmpeg, whole or cut off anywhere."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.packet import Packet
from protocols.isobmff.box import MalformedBox, boxes
from protocols.isobmff.fragmenter import DecodeTimes, Fragmenter, MediaFragment
from protocols.isobmff.reader import closing_patches, index_entry, read_fragments, read_init
from protocols.isobmff.tracks import AacTrack, AvcTrack, OpusTrack, SoundTrack
from protocols.isobmff.writer import (
    INDEX_ROOM,
    IndexEntry,
    Run,
    Sample,
    fragment,
    index,
    init_segment,
    segment_type,
)
from tests.media.coded_pictures import BLUE, GREEN, RED, coded, sound
from tests.peers.ffmpeg import probe, run_ffmpeg
from tests.peers.requirement import requires


def written(
    packets: list[Packet],
    limit: int = 45_000,
    track: SoundTrack | None = None,
    heard: list[Packet] | None = None,
) -> tuple[bytes, list[MediaFragment]]:
    pictures = AvcTrack.of_access_unit(packets[0].data)
    assert pictures is not None
    fragmenter = Fragmenter(pictures, track, limit)
    for one in heard or []:
        fragmenter.push_sound(one.data, one.pts, 960 if isinstance(track, OpusTrack) else 1024)
    done = [part for one in packets for part in fragmenter.push(one.data, one.pts, one.keyframe)]
    done += fragmenter.flush()
    tracks = [pictures, track] if track else [pictures]
    return init_segment(tracks, index_room=INDEX_ROOM), done


def closed(data: bytes) -> bytes:
    view = memoryview(data)
    init = read_init(view)
    whole = bytearray(data)
    for patch in closing_patches(init, [index_entry(one) for one in read_fragments(view, init.size)]):
        whole[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(whole)


def shown_colours(path: Path) -> list[tuple[int, int, int]]:
    with av.open(str(path)) as container:
        return [
            tuple(int(np.median(plane)) for plane in (array[:96], array[96:120], array[120:144]))
            for array in (frame.to_ndarray() for frame in container.decode(video=0))
        ]


def near(seen: tuple[int, ...], meant: tuple[int, ...]) -> bool:
    return all(abs(one - other) <= 6 for one, other in zip(seen, meant, strict=True))


async def test_b_frames_are_shown_in_order(tmp_path: Path) -> None:
    colours = [RED] * 13 + [GREEN] * 13 + [BLUE] * 24
    packets = coded(colours, b_frames=2, gop=50)
    assert [one.pts for one in packets] != sorted(one.pts for one in packets)
    init, parts = written(packets)
    assert all(part.duration <= 45_000 for part in parts)
    assert sum(part.duration for part in parts) == 50 * 3600
    path = tmp_path / "b.mp4"
    path.write_bytes(init + b"".join(part.data for part in parts))
    seen = shown_colours(path)
    assert len(seen) == 50
    assert all(near(one, meant) for one, meant in zip(seen, colours, strict=True))
    shown = [
        run.decode_time + at + sample.composition_offset
        for whole in read_fragments(memoryview(path.read_bytes()))
        for run in whole.runs
        for at, sample in _timed(run)
    ]
    assert shown == [one.pts for one in packets]


def _timed(run: Run) -> list[tuple[int, Sample]]:
    at, timed = 0, []
    for sample in run.samples:
        timed.append((at, sample))
        at += sample.duration
    return timed


@requires("ffmpeg")
@pytest.mark.parametrize("codec", ["libopus", "aac"])
async def test_ffmpeg_reads_pictures_and_sound(tmp_path: Path, codec: str) -> None:
    heard, config = sound(codec, 2.0)
    track = OpusTrack() if codec == "libopus" else AacTrack.of_config(config)
    init, parts = written(coded([RED] * 50), 90_000, track, heard)
    path = tmp_path / "a.mp4"
    path.write_bytes(closed(init + b"".join(part.data for part in parts)))
    found = await probe(tmp_path, str(path))
    assert {one["codec_name"] for one in found["streams"]} == {"h264", codec.removeprefix("lib")}
    assert float(found["format"]["duration"]) == pytest.approx(2.0, abs=0.1)
    said = await run_ffmpeg(tmp_path, "-v", "warning", "-i", str(path), "-f", "null", "-")
    assert "rror" not in said
    with av.open(str(path)) as container:
        samples = np.concatenate([one.to_ndarray()[0] for one in container.decode(audio=0)])[9600:57600]
    peak = np.argmax(np.abs(np.fft.rfft(samples)))
    assert abs(peak * 48_000 / len(samples) - 440) < 3


def test_the_boxes_byte_by_byte() -> None:
    init, parts = written(coded([GREEN] * 30))
    view = memoryview(init)
    assert [(one.kind, one.end - one.start) for one in boxes(view, 0, len(init))][::2] == [
        (b"ftyp", 28),
        (b"free", INDEX_ROOM),
    ]
    assert init[:28] == b"\0\0\0\x1cftypiso6\0\0\0\0iso6cmfcmp41"
    avcc = init.index(b"avcC") + 4
    pictures = AvcTrack.of_access_unit(coded([GREEN])[0].data)
    assert pictures is not None
    assert init[avcc : avcc + 8] == b"\x01" + pictures.sps[1:4] + b"\xff\xe1" + len(pictures.sps).to_bytes(2)
    assert pictures.codecs == f"avc1.{pictures.sps[1:4].hex()}"
    assert init[init.index(b"avc1") + 28 : init.index(b"avc1") + 32] == bytes([0, 160, 0, 96])
    first = parts[0].data
    assert [one.kind for one in boxes(memoryview(first), 0, len(first))] == [b"moof", b"mdat"]
    tfhd = first.index(b"tfhd")
    assert first[tfhd + 4 : tfhd + 12] == bytes.fromhex("00020000 00000001")
    offset = int.from_bytes(first[first.index(b"trun") + 12 : first.index(b"trun") + 16], "big")
    assert first[offset - 4 : offset] == b"mdat"
    assert segment_type() == b"\0\0\0\x1cstypcmfs\0\0\0\0cmfscmfcmsdh"


def test_a_file_is_recovered_wherever_it_is_cut() -> None:
    init, parts = written(coded([BLUE] * 30, size=(64, 64)), 9000)
    data = init + b"".join(part.data for part in parts)
    ends = [len(init)]
    for part in parts:
        ends.append(ends[-1] + len(part.data))
    for cut in range(len(init), len(data) + 1, 7):
        found = list(read_fragments(memoryview(data[:cut]), len(init)))
        assert len(found) == sum(end <= cut for end in ends) - 1
        assert not found or found[-1].offset + found[-1].size in ends
    for cut in range(0, len(init) - INDEX_ROOM, 11):
        with pytest.raises(MalformedBox, match="moov"):
            read_init(memoryview(data[:cut]))


def test_closing_gives_duration_and_an_index_that_adds_up() -> None:
    init, parts = written(coded([BLUE] * 60), 90_000)
    data = init + b"".join(part.data for part in parts)
    whole = closed(data)
    assert len(whole) == len(data)
    kinds = [one.kind for one in boxes(memoryview(whole), 0, len(whole))]
    assert kinds[:4] == [b"ftyp", b"moov", b"sidx", b"free"]
    at = whole.index(b"sidx") + 4
    assert int.from_bytes(whole[at + 30 : at + 32]) == len(parts)
    referenced = sum(int.from_bytes(whole[at + 32 + 12 * n : at + 36 + 12 * n]) for n in range(len(parts)))
    assert referenced == len(data) - len(init)
    assert whole[whole.index(b"mehd") + 8 :][:8] == (60 * 3600).to_bytes(8)
    again = read_init(memoryview(whole))
    assert again.size == len(init)
    assert closing_patches(again, [IndexEntry(1, 1, True)]) == []
    entries = [index_entry(one) for one in read_fragments(memoryview(whole))]
    assert sum(one.duration for one in entries) == 60 * 3600


def test_an_index_of_too_many_entries_joins_neighbours() -> None:
    made = index([IndexEntry(100, 900, n % 2 == 0) for n in range(999)], 0, INDEX_ROOM)
    assert len(made) == INDEX_ROOM
    count = int.from_bytes(made[38:40])
    assert 1 < count <= 166
    assert sum(int.from_bytes(made[40 + 12 * n : 44 + 12 * n]) for n in range(count)) == 99_900


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 2**33))
def test_decode_times_only_grow_and_none_is_lost(steps: list[int], start: int) -> None:
    """Any order of frames, key frames where it restarts."""
    times, at = DecodeTimes(), start
    known: list[int] = []
    for number, step in enumerate(steps):
        at += (step - 1) * 3600
        known += times.push(max(at, 0), number == 0)
    known += times.flush()
    assert len(known) == len(steps)
    assert all(one < other for one, other in pairwise(known))


samples = st.builds(
    Sample,
    st.binary(min_size=1, max_size=40),
    st.integers(1, 2**31),
    st.integers(-(2**30), 2**30),
    st.booleans(),
)
runs = st.builds(
    Run, st.integers(1, 2), st.integers(0, 2**60), st.lists(samples, min_size=1, max_size=6).map(tuple)
)


@given(st.integers(0, 2**32 - 1), st.lists(runs, min_size=1, max_size=2))
def test_fragments_read_back_as_written(sequence: int, made: list[Run]) -> None:
    data = fragment(sequence, made)
    (found,) = read_fragments(memoryview(data))
    assert (found.sequence, found.runs, found.size) == (sequence, tuple(made), len(data))


@settings(max_examples=150)
@given(st.data())
def test_spoilt_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    init, parts = SPOILT
    whole = bytearray(init + b"".join(part.data for part in parts))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[at] = data.draw(st.integers(0, 255))
    list(read_fragments(memoryview(bytes(whole)), len(init)))
    with suppress(MalformedBox):
        read_init(memoryview(bytes(whole)))


SPOILT = written(coded([RED] * 6, size=(64, 64)), 9000)


def test_times_that_stand_still_are_no_reordering() -> None:
    """Some cameras stamp several pictures alike; each of them was to delay a broadcast by one more."""
    times = DecodeTimes()
    shown = [0, 3600, 3600, 3600, 3600, 7200, 7200, 10_800, 14_400]
    decoded = [one for number, time in enumerate(shown) for one in times.push(time, number == 0)]
    assert times.depth == 0
    assert decoded == [0, 3600, 3601, 3602, 3603, 7200, 7201, 10_800, 14_400]
