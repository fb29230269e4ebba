"""Recordings as HLS on demand (RFC 8216): byte ranges into the files as they lie.

    index = read_index(path)                              blocks; what of a file is init, what are segments
    text = playlist([(recording.id, recording.started_at, index), ...], since, until)

A closed file's own sidx says where its fragments are; of one that is being written the fragments are looked
at. Segments begin at key frames. Each file has a time line of its own, hence a discontinuity before each.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from protocols.isobmff.box import Box, MalformedBox, boxes, child, field
from protocols.isobmff.tracks import VIDEO_TIMESCALE
from protocols.isobmff.writer import INDEX_ROOM

SEGMENT_SECONDS = 2.0
"""A segment goes on to the next key frame after so long."""
HEAD_BYTES = 16 << 10
MOOF_BYTES = 1 << 20
SAMPLE_IS_NO_KEY = 0x00010000


@dataclass(frozen=True, slots=True)
class Segment:
    """`start` and `seconds` on the file's time line, `offset` and `size` in its bytes."""

    start: float
    seconds: float
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class FileIndex:
    """`init` is how many bytes the initialization takes, from the start of the file."""

    init: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as the playlist names it; `uri` is relative to the playlist's."""

    uri: str
    started_at: datetime
    index: FileIndex


@dataclass(frozen=True, slots=True)
class _Piece:
    offset: int
    size: int
    duration: int
    keyframe: bool


def read_index(path: Path) -> FileIndex:
    """Blocks. Raises OSError, MalformedBox for what is no file of ours."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        head = memoryview(os.pread(file.fileno(), HEAD_BYTES, 0))
        found = {one.kind: one for one in boxes(head, 0, len(head))}
        moov = found.get(b"moov")
        if moov is None:
            raise MalformedBox("a file without a whole moov")
        sidx = found.get(b"sidx")
        pieces = _indexed(head, sidx) if sidx is not None else _surveyed(file.fileno(), moov.end)
        return FileIndex(moov.end, tuple(_segments(pieces)))


def playlist(files: Iterable[ListedFile], since: datetime, until: datetime) -> str:
    """What lies between `since` and `until`; "" when nothing does."""
    lines: list[str] = []
    longest = 0.0
    for file in files:
        wanted = [one for one in file.index.segments if _overlaps(file.started_at, one, since, until)]
        if not wanted:
            continue
        if lines:
            lines.append("#EXT-X-DISCONTINUITY")
        begins = (file.started_at + timedelta(seconds=wanted[0].start)).astimezone(UTC)
        lines.append(f'#EXT-X-MAP:URI="{file.uri}",BYTERANGE="{file.index.init}@0"')
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{begins:%Y-%m-%dT%H:%M:%S}.{begins.microsecond // 1000:03}Z")
        for one in wanted:
            longest = max(longest, one.seconds)
            lines += [f"#EXTINF:{one.seconds:.5f},", f"#EXT-X-BYTERANGE:{one.size}@{one.offset}", file.uri]
    if not lines:
        return ""
    head = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f"#EXT-X-TARGETDURATION:{math.ceil(longest)}",
    ]
    return "\n".join([*head, *lines, "#EXT-X-ENDLIST", ""])


def _overlaps(started_at: datetime, one: Segment, since: datetime, until: datetime) -> bool:
    begins = started_at + timedelta(seconds=one.start)
    return begins < until and begins + timedelta(seconds=one.seconds) > since


def _segments(pieces: Iterable[_Piece]) -> Iterator[Segment]:
    """Fragments joined from one key frame to another."""
    begin = time = 0
    joined: list[_Piece] = []
    for piece in pieces:
        if joined and piece.keyframe and time - begin >= SEGMENT_SECONDS * VIDEO_TIMESCALE:
            yield _joined(joined, begin)
            joined, begin = [], time
        joined.append(piece)
        time += piece.duration
    if joined:
        yield _joined(joined, begin)


def _joined(pieces: list[_Piece], begin: int) -> Segment:
    seconds = sum(one.duration for one in pieces) / VIDEO_TIMESCALE
    return Segment(begin / VIDEO_TIMESCALE, seconds, pieces[0].offset, sum(one.size for one in pieces))


def _indexed(head: memoryview, sidx: Box) -> Iterator[_Piece]:
    """The entries of a sidx of version 1 as ours are (ISO/IEC 14496-12 8.16.3)."""
    offset = sidx.end + field(head, sidx.body + 20, 8, sidx.end)
    entries = head[sidx.body + 32 : sidx.end]
    for size, duration, access in struct.iter_unpack(">3I", entries[: len(entries) // 12 * 12]):
        yield _Piece(offset, size & 0x7FFFFFFF, duration, bool(access >> 31))
        offset += size & 0x7FFFFFFF


def _surveyed(fd: int, start: int) -> Iterator[_Piece]:
    """The whole fragments of a file without an index: their moofs are read, their media is not."""
    size, at = os.fstat(fd).st_size, start
    moof: tuple[int, int, bool] | None = None
    while at + 8 <= size:
        header = os.pread(fd, 8, at)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length < 8 or at + length > size:
            return
        if kind == b"moof" and length <= MOOF_BYTES:
            moof = (at, *_of_moof(memoryview(os.pread(fd, length, at))))
        elif kind == b"mdat" and moof is not None:
            yield _Piece(moof[0], at + length - moof[0], moof[1], moof[2])
            moof = None
        at += length


def _of_moof(data: memoryview) -> tuple[int, bool]:
    """Duration of the first track's run in 1/90000 s, and whether a key frame begins it."""
    outer = Box(b"moof", 0, 8, len(data))
    trun = child(data, outer, b"traf", b"trun")
    count = field(data, trun.body + 4, 4, trun.end)
    rows = range(trun.body + 12, min(trun.body + 12 + 16 * count, trun.end - 15), 16)
    duration = sum(field(data, row, 4, trun.end) for row in rows)
    flags = field(data, trun.body + 20, 4, trun.end)
    return duration, not flags & SAMPLE_IS_NO_KEY


assert HEAD_BYTES > 2 * INDEX_ROOM
