"""Files of ours read back, whole or cut off anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocols.isobmff.box import Box, MalformedBox, boxes, child, field
from protocols.isobmff.writer import IndexEntry, Run, Sample, duration_box, index


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """`entry` is the sample entry's type: avc1, mp4a, Opus."""

    id: int
    entry: str
    timescale: int


@dataclass(frozen=True, slots=True)
class Init:
    """What a file says of itself before its fragments.

    `size` is where they begin; `duration_room` and `index_room` are the places (start, bytes) kept for what
    closes the file, None when it is closed already or never had them.
    """

    tracks: tuple[TrackInfo, ...]
    size: int
    duration_room: tuple[int, int] | None
    index_room: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Fragment:
    """A whole moof + mdat at `offset` of the file, `size` bytes long, with its samples."""

    offset: int
    size: int
    sequence: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes to be written over others of the same number at `offset`."""

    offset: int
    data: bytes


def read_init(data: memoryview) -> Init:
    """ftyp, moov and what lies before the first fragment. Raises MalformedBox when they are not whole."""
    size, moov, room = 0, None, None
    for one in boxes(data, 0, len(data)):
        if one.kind == b"moof":
            break
        if one.kind == b"moov":
            moov = one
        elif one.kind == b"free" and room is None:
            room = (one.start, one.end - one.start)
        elif one.kind == b"sidx":
            room = None
        size = one.end
    if moov is None:
        raise MalformedBox("a file without a whole moov")
    extends = child(data, moov, b"mvex")
    spare = next((one for one in boxes(data, extends.body, extends.end) if one.kind == b"free"), None)
    tracks = tuple(_track(data, one) for one in boxes(data, moov.body, moov.end) if one.kind == b"trak")
    duration_room = (spare.start, spare.end - spare.start) if spare else None
    return Init(tracks, size, duration_room, room if spare else None)


def read_fragments(data: memoryview, start: int = 0) -> Iterator[Fragment]:
    """The whole fragments from `start` on; ends at the first that is cut off or makes no sense."""
    moof: Box | None = None
    try:
        for one in boxes(data, start, len(data)):
            if one.kind == b"moof":
                moof = one
            elif one.kind == b"mdat" and moof is not None:
                yield _fragment(data, moof, one)
                moof = None
    except MalformedBox:
        return


def closing_patches(init: Init, entries: Sequence[IndexEntry], start: int = 0) -> list[Patch]:
    """What gives a file that is at its end its duration and index; nothing where there is no room.

    `start` is the time of the first picture in 1/90000 s.
    """
    patches: list[Patch] = []
    if init.duration_room is not None and entries:
        total = sum(one.duration for one in entries)
        patches.append(Patch(init.duration_room[0], duration_box(total)))
    if init.index_room is not None and entries:
        offset, room = init.index_room
        patches.append(Patch(offset, index(entries, start, room)))
    return patches


def index_entry(one: Fragment) -> IndexEntry:
    """The fragment's line in the index: its first track's duration, its bytes."""
    pictures = one.runs[0]
    return IndexEntry(one.size, pictures.duration, pictures.samples[0].keyframe)


def _track(data: memoryview, trak: Box) -> TrackInfo:
    header = child(data, trak, b"tkhd")
    media = child(data, trak, b"mdia", b"mdhd")
    description = child(data, trak, b"mdia", b"minf", b"stbl", b"stsd")
    entry = bytes(data[description.body + 12 : description.body + 16])
    return TrackInfo(
        field(data, header.body + 12, 4, header.end),
        entry.decode("latin-1"),
        field(data, media.body + 12, 4, media.end),
    )


def _fragment(data: memoryview, moof: Box, mdat: Box) -> Fragment:
    header = child(data, moof, b"mfhd")
    runs = tuple(
        _run(data, moof, one, mdat) for one in boxes(data, moof.body, moof.end) if one.kind == b"traf"
    )
    if not runs:
        raise MalformedBox("a moof without a traf")
    sequence = field(data, header.body + 4, 4, header.end)
    return Fragment(moof.start, mdat.end - moof.start, sequence, runs)


def _run(data: memoryview, moof: Box, traf: Box, mdat: Box) -> Run:
    header = child(data, traf, b"tfhd")
    time = child(data, traf, b"tfdt")
    trun = child(data, traf, b"trun")
    if field(data, trun.body, 4, trun.end) & 0xFFFFFF != 0x000F01:
        raise MalformedBox("a trun that is not written as ours are")
    count = field(data, trun.body + 4, 4, trun.end)
    at = moof.start + field(data, trun.body + 8, 4, trun.end)
    if not count or trun.body + 12 + 16 * count != trun.end:
        raise MalformedBox(f"a trun of {count} samples in {trun.end - trun.body} bytes")
    samples = []
    for row in range(trun.body + 12, trun.end, 16):
        duration, size, flags = (field(data, row + 4 * n, 4, trun.end) for n in range(3))
        offset = int.from_bytes(data[row + 12 : row + 16], "big", signed=True)
        if not mdat.body <= at <= at + size <= mdat.end:
            raise MalformedBox("a sample outside its mdat")
        keyframe = not flags & 0x00010000
        samples.append(Sample(bytes(data[at : at + size]), duration, offset, keyframe))
        at += size
    track_id = field(data, header.body + 4, 4, header.end)
    return Run(track_id, field(data, time.body + 4, 8, time.end), tuple(samples))
