"""ftyp, moov, moof, mdat, styp and sidx as bytes (ISO/IEC 14496-12, byte by byte)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from protocols.isobmff.box import box, full_box
from protocols.isobmff.tracks import VIDEO_TIMESCALE, AvcTrack, Track

MOVIE_TIMESCALE = VIDEO_TIMESCALE
INDEX_ROOM = 2048
"""Bytes kept free behind the moov of a file, for the sidx that closes it."""

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SYNC_SAMPLE = 0x02000000
_OTHER_SAMPLE = 0x01010000
"""sample_flags (8.8.3.1): depends on no other, or on others and is no sync sample."""
_TRUN_FLAGS = 0x000F01
"""data offset; each sample with duration, size, flags and composition offset (8.8.8)."""
_DEFAULT_BASE_IS_MOOF = 0x020000
_DURATION_ROOM = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """A coded frame; `duration` and `composition_offset` (may be negative) in its track's timescale."""

    data: bytes
    duration: int
    composition_offset: int = 0
    keyframe: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring samples of one track; `decode_time` of the first in the track's timescale."""

    track_id: int
    decode_time: int
    samples: tuple[Sample, ...]

    @property
    def duration(self) -> int:
        return sum(sample.duration for sample in self.samples)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A subsegment of the sidx (8.16.3): bytes, duration in 1/90000 s, whether a key frame begins it."""

    size: int
    duration: int
    keyframe: bool


def init_segment(tracks: Sequence[Track], *, index_room: int = 0) -> bytes:
    """ftyp and moov; track ids are 1, 2 ... in order.

    With `index_room`, bytes are kept free for what `duration_box` and `index` write when the file is closed.
    Raises ValueError without a track.
    """
    if not tracks:
        raise ValueError("a file of no track")
    file_type = box(b"ftyp", b"iso6", bytes(4), b"iso6cmfcmp41")
    header = full_box(
        b"mvhd",
        0,
        0,
        struct.pack(">4I", 0, 0, MOVIE_TIMESCALE, 0) + bytes.fromhex("00010000 0100") + bytes(10),
        _MATRIX + bytes(24) + (len(tracks) + 1).to_bytes(4, "big"),
    )
    traks = [_trak(number, track) for number, track in enumerate(tracks, 1)]
    extends = [
        full_box(b"trex", 0, 0, struct.pack(">5I", number, 1, 0, 0, 0)) for number, _ in enumerate(tracks, 1)
    ]
    if index_room:
        extends.insert(0, box(b"free", bytes(_DURATION_ROOM - 8)))
    moov = box(b"moov", header, *traks, box(b"mvex", *extends))
    room = box(b"free", bytes(index_room - 8)) if index_room else b""
    return file_type + moov + room


def fragment(sequence: int, runs: Sequence[Run]) -> bytes:
    """moof and mdat of the runs that have samples (8.8.4). Raises ValueError when none has."""
    filled = [run for run in runs if run.samples]
    if not filled:
        raise ValueError("a fragment of no sample")
    size = len(_moof(sequence, filled, 0))
    moof = _moof(sequence, filled, size + 8)
    return moof + box(b"mdat", *(sample.data for run in filled for sample in run.samples))


def segment_type() -> bytes:
    """styp of a CMAF segment (8.16.2)."""
    return box(b"styp", b"cmfs", bytes(4), b"cmfscmfcmsdh")


def duration_box(duration: int) -> bytes:
    """mehd (8.8.2), as long as the room `init_segment` keeps for it."""
    return full_box(b"mehd", 1, 0, duration.to_bytes(8, "big"))


def index(entries: Sequence[IndexEntry], start: int, room: int) -> bytes:
    """sidx (8.16.3) and free, together of `room` bytes; neighbours are joined until the entries fit.

    `start` is the earliest presentation time. Raises ValueError when the room holds no entry.
    """
    limit = (room - 8 - 40) // 12
    if limit < 1 or not entries:
        raise ValueError(f"no index of {len(entries)} entries in {room} bytes")
    while len(entries) > limit:
        entries = [_joined(entries[at : at + 2]) for at in range(0, len(entries), 2)]
    rows = [
        struct.pack(">3I", one.size & 0x7FFFFFFF, one.duration, 0x90000000 if one.keyframe else 0)
        for one in entries
    ]
    size = 40 + 12 * len(rows)
    head = struct.pack(">2I2Q2H", 1, VIDEO_TIMESCALE, start, room - size, 0, len(rows))
    return full_box(b"sidx", 1, 0, head, *rows) + box(b"free", bytes(room - size - 8))


def _joined(pair: Sequence[IndexEntry]) -> IndexEntry:
    return IndexEntry(sum(one.size for one in pair), sum(one.duration for one in pair), pair[0].keyframe)


def _trak(number: int, track: Track) -> bytes:
    picture = isinstance(track, AvcTrack)
    shape = (
        struct.pack(">2I", track.width << 16, track.height << 16) if isinstance(track, AvcTrack) else bytes(8)
    )
    header = full_box(
        b"tkhd",
        0,
        3,
        struct.pack(">5I", 0, 0, number, 0, 0) + bytes(12) + (b"\0\0" if picture else b"\1\0") + bytes(2),
        _MATRIX + shape,
    )
    media = full_box(b"mdhd", 0, 0, struct.pack(">4I2H", 0, 0, track.timescale, 0, 0x55C4, 0))
    handler = (b"vide", b"Pictures\0") if picture else (b"soun", b"Sound\0")
    kind = full_box(b"hdlr", 0, 0, bytes(4) + handler[0] + bytes(12) + handler[1])
    about = full_box(b"vmhd", 0, 1, bytes(8)) if picture else full_box(b"smhd", 0, 0, bytes(4))
    where = box(b"dinf", full_box(b"dref", 0, 0, b"\0\0\0\1", full_box(b"url ", 0, 1)))
    table = box(
        b"stbl",
        full_box(b"stsd", 0, 0, b"\0\0\0\1", track.sample_entry()),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    return box(b"trak", header, box(b"mdia", media, kind, box(b"minf", about, where, table)))


def _moof(sequence: int, runs: Sequence[Run], offset: int) -> bytes:
    """`offset` is where the first run's samples lie, from the start of the moof."""
    trafs = []
    for run in runs:
        rows = [
            struct.pack(
                ">3Ii",
                sample.duration,
                len(sample.data),
                _SYNC_SAMPLE if sample.keyframe else _OTHER_SAMPLE,
                sample.composition_offset,
            )
            for sample in run.samples
        ]
        trafs.append(
            box(
                b"traf",
                full_box(b"tfhd", 0, _DEFAULT_BASE_IS_MOOF, run.track_id.to_bytes(4, "big")),
                full_box(b"tfdt", 1, 0, run.decode_time.to_bytes(8, "big")),
                full_box(b"trun", 1, _TRUN_FLAGS, struct.pack(">Ii", len(rows), offset), *rows),
            )
        )
        offset += sum(len(sample.data) for sample in run.samples)
    return box(b"moof", full_box(b"mfhd", 0, 0, sequence.to_bytes(4, "big")), *trafs)
