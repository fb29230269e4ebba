"""One file of a recording; every call here blocks and belongs in a `Disk` thread.

What is on the disk when: each fragment is handed to the kernel in one write as soon as it is whole, so a
killed process loses at most the fragment in the making. `fdatasync` follows every `SYNC_SECONDS` of media and
at the close, so a power cut loses at most that. Fragments are never written over; only the room kept in the
init is, once, when the file is closed.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from protocols.isobmff.box import MalformedBox
from protocols.isobmff.fragmenter import MediaFragment
from protocols.isobmff.reader import Patch, closing_patches, index_entry, read_fragments, read_init
from protocols.isobmff.tracks import VIDEO_TIMESCALE
from protocols.isobmff.writer import IndexEntry

SYNC_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: bytes, and seconds of media."""

    size: int
    seconds: float


class SegmentFile:
    """Opens a new file with its init; raises OSError, FileExistsError when it is there already.

    `reserve`: bytes that must stay free on the file system, for the database and for everyone else; a write
    that would take them raises OSError(ENOSPC).
    """

    def __init__(self, path: Path, init: bytes, reserve: int = 0) -> None:
        self.path = path
        self._init = read_init(memoryview(init))
        self._entries: list[IndexEntry] = []
        self._duration = 0
        self._synced = 0
        self._reserve = reserve
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        self._size = 0
        try:
            self._append(init)
        except OSError:
            self.abandon()
            with suppress(OSError):
                path.unlink()
            raise

    @property
    def written(self) -> Written:
        return Written(self._size, self._duration / VIDEO_TIMESCALE)

    def write(self, fragment: MediaFragment) -> None:
        """Append a whole fragment. Raises OSError; the file then ends at the fragment before."""
        with self._lock:
            self._append(fragment.data)
            self._entries.append(IndexEntry(len(fragment.data), fragment.duration, fragment.keyframe))
            self._duration += fragment.duration
            if self._duration - self._synced >= SYNC_SECONDS * VIDEO_TIMESCALE:
                os.fdatasync(self._fd)
                self._synced = self._duration

    def close(self) -> Written:
        """Write duration and index, and let go of the file. Raises OSError; the file plays all the same."""
        with self._lock:
            try:
                for patch in closing_patches(self._init, self._entries):
                    os.pwrite(self._fd, patch.data, patch.offset)
                os.fdatasync(self._fd)
            finally:
                self._release()
        return self.written

    def abandon(self) -> None:
        """Let go of the file as it is; it is mended at the next start."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the recording's file is closed")
        if self._reserve:
            free = os.fstatvfs(self._fd)
            if free.f_bavail * free.f_frsize < self._reserve + len(data):
                raise OSError(errno.ENOSPC, f"less than the {self._reserve} bytes kept for others are free")
        view, at = memoryview(data), 0
        try:
            while at < len(data):
                at += os.pwrite(self._fd, view[at:], self._size + at)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)


def mend_file(path: Path) -> Written | None:
    """Close a file that was left open: cut off what is not whole, write duration and index.

    None when there is no file, or no whole fragment in it; such a file is removed. Raises OSError.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        entries, size, patches = _survey(fd)
        if entries:
            os.ftruncate(fd, size)
            for patch in patches:
                os.pwrite(fd, patch.data, patch.offset)
            os.fdatasync(fd)
    finally:
        os.close(fd)
    if not entries:
        path.unlink(missing_ok=True)
        return None
    return Written(size, sum(one.duration for one in entries) / VIDEO_TIMESCALE)


def _survey(fd: int) -> tuple[list[IndexEntry], int, list[Patch]]:
    """The whole fragments of a file, where they end, and what closes it."""
    with os.fdopen(os.dup(fd), "rb") as file:
        data = memoryview(file.read())
    try:
        init = read_init(data)
    except MalformedBox:
        return [], 0, []
    fragments = list(read_fragments(data, init.size))
    if not fragments:
        return [], 0, []
    entries = [index_entry(one) for one in fragments]
    return entries, fragments[-1].offset + fragments[-1].size, closing_patches(init, entries)
