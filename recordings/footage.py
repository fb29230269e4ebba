"""Footage out of a camera's recorded files, and footage as a file; all of it blocks (a `Disk` thread)."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from media.fragments import Began, StreamFragments
from media.opus_sound import AS_IT_IS, OPUS, OpusMaker, UnsupportedSound
from media.packet import Format, Packet
from protocols.isobmff.box import Box, MalformedBox, boxes, child, field
from protocols.isobmff.fragmenter import PICTURES, SOUND, MediaFragment
from protocols.isobmff.reader import Fragment, Init, read_fragments, read_init
from protocols.isobmff.tracks import VIDEO_TIMESCALE
from protocols.isobmff.writer import INDEX_ROOM, Run
from recordings.preroll import Footage, TimeLine
from recordings.segment_file import SegmentFile

START_CODE = b"\0\0\0\1"
SAMPLE_ENTRY = 78
"""Bytes of a VisualSampleEntry before its boxes (ISO/IEC 14496-12 12.1.3); 28 of an AudioSampleEntry."""
SOUND_ENTRY = 28
SPECIFIC_INFO = 22
"""Where the AudioSpecificConfig lies in the descriptors of an esds of ours (ISO/IEC 14496-1 7.2.6)."""
CLIP_FRAGMENT_SECONDS = 0.5


class NoPicture(ValueError):
    """There is nothing in the footage that a file could begin with."""


@dataclass(frozen=True, slots=True)
class WrittenClip:
    """A whole file: its digest in hex, whether footage was left out because its picture had another shape
    than the file's, and whether it is an `earlier` attempt's, of other footage."""

    sha256: str
    shortened: bool = False
    earlier: bool = False


# --- out of recorded files --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file of ours, and when its first picture came (monotonic seconds)."""

    path: Path
    arrival: float


def read_footage(files: Sequence[RecordedFile], since: float, until: float) -> Footage:
    """What the files have from the key frame at or before `since` up to `until` (monotonic seconds).

    A file that is still being written is read as far as it goes; one that is gone or unreadable is passed
    over.
    """
    pictures: list[Packet] = []
    heard: list[Packet] = []
    line = TimeLine(VIDEO_TIMESCALE)
    sound_line: TimeLine | None = None
    sound_format: Format | None = None
    for file in files:
        line.cut()
        with suppress(OSError, MalformedBox):
            seen, sounding, coded = _packets(_read(file.path), file.arrival, until)
            if sound_format is None and coded is not None:
                sound_format, sound_line = coded, TimeLine(coded.clock_rate)
            pictures += [line.place(one) for one in seen]
            if sound_line is not None and coded == sound_format:
                sound_line.cut()
                heard += [sound_line.place(one) for one in sounding]
    first = max((n for n, one in enumerate(pictures) if one.keyframe and one.arrival <= since), default=0)
    return Footage(tuple(pictures[first:]), tuple(heard), sound_format)


def _read(path: Path) -> memoryview:
    """Read, not mapped: a file being written may be cut where a full disk broke a write."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return memoryview(file.read())


def _packets(
    data: memoryview, arrival: float, until: float
) -> tuple[list[Packet], list[Packet], Format | None]:
    init = read_init(data)
    sets, sound = _parameter_sets(data), _sound_format(data, init)
    pictures: list[Packet] = []
    heard: list[Packet] = []
    for fragment in read_fragments(data, init.size):
        if arrival + fragment.runs[0].decode_time / VIDEO_TIMESCALE > until:
            break
        pictures += _pictures(fragment, arrival, sets)
        if sound is not None:
            heard += _heard(fragment, arrival, sound.clock_rate)
    return [one for one in pictures if one.arrival <= until], heard, sound


def _runs(fragment: Fragment, track: int) -> Iterator[Run]:
    return (run for run in fragment.runs if run.track_id == track)


def _pictures(fragment: Fragment, arrival: float, sets: bytes) -> Iterator[Packet]:
    for run in _runs(fragment, PICTURES):
        time = run.decode_time
        for sample in run.samples:
            data = _byte_stream(sample.data)
            yield Packet(
                sets + data if sample.keyframe else data,
                time + sample.composition_offset,
                arrival + time / VIDEO_TIMESCALE,
                sample.keyframe,
            )
            time += sample.duration


def _heard(fragment: Fragment, arrival: float, rate: int) -> Iterator[Packet]:
    for run in _runs(fragment, SOUND):
        time = run.decode_time
        for sample in run.samples:
            yield Packet(sample.data, time, arrival + time / rate)
            time += sample.duration


def _byte_stream(sample: bytes) -> bytes:
    """Annex B instead of four-byte lengths (ISO/IEC 14496-15 5.3.2)."""
    parts, at = [], 0
    while at + 4 <= len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        parts.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return b"".join(START_CODE + part for part in parts)


def _entries(data: memoryview) -> Iterator[Box]:
    """The sample entries of the tracks."""
    moov = next((one for one in boxes(data, 0, len(data)) if one.kind == b"moov"), None)
    if moov is None:
        raise MalformedBox("a file without a whole moov")
    for trak in boxes(data, moov.body, moov.end):
        if trak.kind == b"trak":
            stsd = child(data, trak, b"mdia", b"minf", b"stbl", b"stsd")
            yield from itertools.islice(boxes(data, stsd.body + 8, stsd.end), 1)


def _parameter_sets(data: memoryview) -> bytes:
    """SPS and PPS of the avcC (ISO/IEC 14496-15 5.3.3.1) as a byte stream. Raises MalformedBox."""
    for entry in _entries(data):
        for one in boxes(data, entry.body + SAMPLE_ENTRY, entry.end):
            if entry.kind == b"avc1" and one.kind == b"avcC":
                sps, after = _sets(data, one.body + 5, one.end, 0x1F)
                pps, _ = _sets(data, after, one.end, 0xFF)
                return sps + pps
    raise MalformedBox("no H.264 in this file")


def _sets(data: memoryview, at: int, end: int, mask: int) -> tuple[bytes, int]:
    """The parameter sets of an array behind its count, and where it ends. Raises MalformedBox."""
    sets, count = b"", field(data, at, 1, end) & mask
    at += 1
    for _ in range(count):
        size = field(data, at, 2, end)
        sets += START_CODE + bytes(data[at + 2 : min(at + 2 + size, end)])
        at += 2 + size
    return sets, at


def _sound_format(data: memoryview, init: Init) -> Format | None:
    rates = {track.entry: track.timescale for track in init.tracks}
    for entry in _entries(data):
        if entry.kind == b"Opus":
            return OPUS
        if entry.kind == b"mp4a":
            for one in boxes(data, entry.body + SOUND_ENTRY, entry.end):
                if one.kind == b"esds":
                    at = one.body + 4 + SPECIFIC_INFO
                    size = field(data, at - 1, 1, one.end)
                    config = bytes(data[at : min(at + size, one.end)])
                    return Format("MPEG4-GENERIC", rates["mp4a"], parameters={"config": config.hex()})
    return None


# --- as a file --------------------------------------------------------------------------------------------


def write_clip(footage: Footage, path: Path, reserve: int = 0) -> WrittenClip:
    """Write a plain, seekable file: under a name of this attempt's own first, then in one step under its own.

    A file that is there already stays: its digest may have been written down by now. So whoever comes to an
    end of this has the digest of the same file. Raises OSError, NoPicture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        shortened = _write(footage, part, reserve)
        clip = WrittenClip(_digest(part), shortened)
        try:
            _publish(part, path)
        except FileExistsError:
            there = _digest(path)
            if there != clip.sha256:
                clip = WrittenClip(there, earlier=True)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return clip


def earlier_clip(path: Path) -> WrittenClip | None:
    """What an attempt that was cut off had written; None when there is nothing. Raises OSError."""
    try:
        return WrittenClip(_digest(path), earlier=True)
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(part: Path, path: Path) -> None:
    """Raises FileExistsError where a rename would replace."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: there a look before must do
        if path.exists():
            raise FileExistsError(path) from None
        part.rename(path)


def _write(footage: Footage, path: Path, reserve: int) -> bool:
    """Whether the picture changed its shape on the way."""
    sound, heard = _fit_sound(footage)
    fragments = StreamFragments(
        Format("H264", VIDEO_TIMESCALE),
        sound,
        fragment_seconds=CLIP_FRAGMENT_SECONDS,
        jump_seconds=3600.0,
        index_room=INDEX_ROOM,
    )
    file: SegmentFile | None = None
    shortened = False
    waiting = iter(sorted(heard, key=lambda one: one.arrival))
    next_heard = next(waiting, None)
    try:
        for packet in (*footage.pictures, None):
            made = fragments.end() if packet is None else fragments.take(packet)
            for one in made:
                if isinstance(one, Began) and file is not None:
                    shortened = True
                elif isinstance(one, Began):
                    file = SegmentFile(path, one.init, reserve)
                elif isinstance(one, MediaFragment) and file is not None and not shortened:
                    file.write(one)
            if shortened:
                break
            while packet and next_heard is not None and next_heard.arrival <= packet.arrival:
                fragments.take_sound(next_heard)
                next_heard = next(waiting, None)
        if file is None or not file.written.seconds:
            raise NoPicture("no key frame with its parameter sets was kept")
        file.close()
        return shortened
    finally:
        if file is not None:
            file.abandon()


def _fit_sound(footage: Footage) -> tuple[Format | None, Sequence[Packet]]:
    """The sound as MP4 can hold it; none where it cannot be decoded: the pictures are what is wanted."""
    coded = footage.sound_format
    if coded is None or not footage.sound or not footage.pictures:
        return None, ()
    first, last = footage.pictures[0].arrival, footage.pictures[-1].arrival
    heard = [one for one in footage.sound if first - 0.5 <= one.arrival <= last + 0.5]
    if coded.codec in AS_IT_IS:
        return coded, heard
    try:
        maker = OpusMaker(coded)
    except UnsupportedSound:
        return None, ()
    return OPUS, [made for one in heard for made in maker.take(one)]
