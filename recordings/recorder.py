"""Records one subject.

    recorder = Recorder(Subject(RecordingKind.CAMERA, id, site_id), folder, database, disk, clock)
    ended = await recorder.run(video, sound)      -> RecordingEnded, when the stream ends or `stop` is called
    await recorder.listen(sound)                  beside it: sound that came late, until that ends

Row first, then file. Files are cut at key frames after about a minute, and where the stream's parameter
sets, its time or its sound change; sound that ends leaves the pictures going on. The event loop only builds
fragments; files are written in the disk's threads, and while one write lasts the readers queue, bounded, and
count what they drop. Whoever cancels `run` leaves the file as after a kill: the next start mends it.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum

import structlog

from foundation.clock import Clock
from foundation.database import Database, DatabaseError
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)
from foundation.schema import new_id
from media.fragments import Began, FragmentCounts, Made, StreamFragments, sound_track
from media.packet import Format, Packet
from media.stream import Reader, Stream
from protocols.isobmff.fragmenter import MediaFragment
from protocols.isobmff.writer import INDEX_ROOM
from recordings.disk import Disk
from recordings.recording_folder import RecordingFolder
from recordings.segment_file import SegmentFile, Written

FILE_SECONDS = 60.0
FRAGMENT_SECONDS = 0.5
"""What is lost with a killed process is at most this and the frame in the making."""
KEYFRAME_SECONDS = 10.0
"""The stream is asked for a key frame after so long without one: to seek, and to cut files."""
START_SECONDS = 10.0
"""Of a file, within which its first frame may prove to have been held up; later it is a drift of clocks."""
HELD_UP = 0.1
REPLAYED_SECONDS = 60.0
HASTE = 900
"""So much faster than they were pass frames that an earlier file has; no two of them at once."""
RESERVE_BYTES = 512 << 20
"""Kept free on the file system for the database and everyone else."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_log = structlog.get_logger("recorder")


class EndCause(StrEnum):
    """Why a recording ended."""

    STREAM_ENDED = "stream ended"
    STOPPED = "stopped"
    DISK_FULL = "disk full"
    DISK_FAILED = "disk failed"
    INDEX_FAILED = "index failed"

    @property
    def alarm(self) -> bool:
        """Somebody must do something."""
        return self not in (EndCause.STREAM_ENDED, EndCause.STOPPED)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is recorded and whose it is."""

    kind: RecordingKind
    id: str
    site_id: str


@dataclass(frozen=True, slots=True)
class LastFrame:
    """When the newest frame that was recorded came, and the latest time of its stream."""

    arrival: float
    pts: int

    def again(self, packet: Packet, rate: int) -> Packet:
        """A stream that was only out of reach gives its group of pictures again. What was recorded already is
        needed to decode what follows, but not to be seen twice: it passes in a moment."""
        ago = self.pts - packet.pts
        if packet.arrival > self.arrival or not 0 <= ago <= REPLAYED_SECONDS * rate:
            return packet
        return replace(packet, pts=self.pts - ago // HASTE, arrival=self.arrival, ntp=None)


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """`dropped` frames were lost because the disk was too slow for the stream; `counts` has the others."""

    subject: Subject
    cause: EndCause
    detail: str
    files: int
    bytes: int
    dropped: int
    counts: FragmentCounts


class Recorder:
    """Runs once. `run` and `listen` raise media.fragments.UnsupportedFormat for what MP4 cannot hold.

    `on_change` is called when a file was begun or closed; `last_frame` is when a picture last came (monotonic
    seconds).
    """

    def __init__(
        self,
        subject: Subject,
        folder: RecordingFolder,
        database: Database,
        disk: Disk,
        clock: Clock,
        *,
        file_seconds: float = FILE_SECONDS,
        reserve_bytes: int = RESERVE_BYTES,
        on_change: Callable[[], None] = lambda: None,
        before: LastFrame | None = None,
    ) -> None:
        self.subject = subject
        self.last_frame: float | None = None
        self.last: LastFrame | None = before
        self._before = before
        self.files = 0
        self.bytes = 0
        self._folder = folder
        self._database = database
        self._disk = disk
        self._clock = clock
        self._file_seconds = file_seconds
        self._reserve = reserve_bytes
        self._recording: Recording | None = None
        self._file: SegmentFile | None = None
        self._held_up = 0.0
        self._written: Written | None = None
        self._readers: list[Reader] = []
        self._stopped = False
        self._last_key = 0
        self._on_change = on_change
        self._dropped = 0
        self._counts = FragmentCounts()
        self._fragments: StreamFragments | None = None
        self._sound: Stream | None = None
        self._heard: Stream | None = None

    @property
    def dropped(self) -> int:
        """Frames that the disk was too slow for."""
        return self._dropped + sum(reader.dropped for reader in self._readers)

    def stop(self) -> None:
        """`run` closes the file and returns; what is queued is not written any more."""
        self._stopped = True
        for reader in self._readers:
            reader.close()

    async def run(self, video: Stream, sound: Stream | None = None) -> RecordingEnded:
        """Record until the pictures end, `stop`, or a failure, which is returned and not raised."""
        self._begin(video.format, sound or self._sound)
        cause, detail = EndCause.STREAM_ENDED, ""
        try:
            await self._record(video, sound)
            if self._stopped:
                cause = EndCause.STOPPED
        except OSError as error:
            cause = EndCause.DISK_FULL if error.errno in _FULL else EndCause.DISK_FAILED
            detail = str(error)
        except DatabaseError as error:
            cause, detail = EndCause.INDEX_FAILED, str(error)
        finally:
            if self._file is not None and not cause.alarm:  # cancelled
                self._disk.later(self._file.abandon)
        if cause.alarm:
            _log.error("recording stopped", subject=self.subject.id, cause=str(cause), detail=detail)
            await self._close_after_failure()
        self._retire()
        return RecordingEnded(self.subject, cause, detail, self.files, self.bytes, self.dropped, self._counts)

    async def listen(self, sound: Stream) -> None:
        """Record this sound beside the pictures until it ends, from their next key frame on.

        A file has sound throughout or not at all: browsers wait for sound that a file announces.
        """
        sound_track(sound.format)
        self._sound = sound
        async with sound.reader() as reader:
            self._readers.append(reader)
            try:
                async for packet in reader:
                    if self._fragments is not None and self._heard is sound:
                        self._fragments.take_sound(packet)
            finally:
                self._readers.remove(reader)
                self._dropped += reader.dropped
        if self._sound is sound:
            self._sound = None

    def _begin(self, pictures: Format, sound: Stream | None) -> None:
        self._retire()
        self._fragments = StreamFragments(
            pictures,
            sound.format if sound else None,
            fragment_seconds=FRAGMENT_SECONDS,
            restart_seconds=self._file_seconds,
            index_room=INDEX_ROOM,
        )
        self._sound = self._heard = sound

    def _retire(self) -> None:
        """What the fragments so far have left out counts on."""
        if self._fragments is not None:
            for one in fields(FragmentCounts):
                total = getattr(self._counts, one.name) + getattr(self._fragments.counts, one.name)
                setattr(self._counts, one.name, total)
        self._fragments = None

    async def _record(self, video: Stream, sound: Stream | None) -> None:
        listening: asyncio.Task[None] | None = None
        if sound is not None:
            listening = asyncio.create_task(self.listen(sound), name=f"recorder.{self.subject.id}.sound")
        try:
            async with video.reader() as pictures:
                self._readers.append(pictures)
                if self._stopped:
                    pictures.close()
                async for packet in pictures:
                    self.last_frame = self._clock.monotonic()
                    self._want_keyframe(video, packet)
                    await self._take(await self._fragments_of(video, packet))
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        if self._fragments is not None:
            await self._take(self._fragments.end())
        await self._close()

    async def _fragments_of(self, video: Stream, packet: Packet) -> list[Made]:
        """What the next picture completes; at a key frame sound that has come or changed is taken in."""
        if self.last is None or packet.arrival > self.last.arrival:
            latest = packet.pts if self.last is None or packet.keyframe else max(packet.pts, self.last.pts)
            self.last = LastFrame(packet.arrival, latest)
        if self._before is not None:
            packet = self._before.again(packet, video.format.clock_rate)
        if packet.keyframe and self._sound is not self._heard and self._fragments is not None:
            await self._take(self._fragments.end())
            self._begin(video.format, self._sound)
        return self._fragments.take(packet) if self._fragments is not None else []

    def _want_keyframe(self, video: Stream, packet: Packet) -> None:
        if packet.keyframe:
            self._last_key = packet.pts
            return
        long_ago = packet.pts - self._last_key > KEYFRAME_SECONDS * video.format.clock_rate
        if long_ago or self._sound is not self._heard:
            video.request_keyframe()

    async def _take(self, made: list[Made]) -> None:
        for one in made:
            if isinstance(one, Began):
                await self._close()
                await self._open(one)
            elif self._file is not None:
                await self._write(self._file, one)
        await self._set_back()

    async def _write(self, file: SegmentFile, fragment: MediaFragment) -> None:
        await self._disk.run(file.write, fragment)
        self.bytes += len(fragment.data)

    async def _set_back(self) -> None:
        """The file began earlier than its first frame came, if that was held up: many sources begin so."""
        if self._fragments is None or self._recording is None or self._fragments.running > START_SECONDS:
            return
        more = self._fragments.held_up - self._held_up
        if more > HELD_UP:
            self._held_up += more
            started_at = self._recording.started_at - timedelta(seconds=more)
            self._recording = replace(self._recording, started_at=started_at)
            async with self._database.transaction() as tx:
                await RecordingRepository(tx).set_back(self._recording.id, started_at)

    async def _open(self, began: Began) -> None:
        age = timedelta(seconds=self._clock.monotonic() - began.arrival)
        started_at = self._clock.now() - max(age, timedelta())
        recording_id = new_id()
        recording = Recording(
            id=recording_id,
            kind=self.subject.kind,
            subject=self.subject.id,
            site_id=self.subject.site_id,
            path=self._folder.new_path(self.subject.kind, self.subject.id, started_at, recording_id),
            codecs=began.codecs,
            width=began.width,
            height=began.height,
            started_at=started_at,
        )
        async with self._database.transaction() as tx:
            await RecordingRepository(tx).open(recording)
        self._recording, self._held_up = recording, 0.0
        self._file = await self._disk.run(self._make, recording.path, began.init)
        self.files += 1
        self.bytes += len(began.init)
        self._on_change()

    def _make(self, path: str, init: bytes) -> SegmentFile:
        return SegmentFile(self._folder.resolve(path), init, self._reserve)

    async def _close(self) -> None:
        file, recording = self._file, self._recording
        if recording is None:
            return
        if file is not None:
            self._written = await self._disk.run(file.close)
            self._file = None
        written = self._written
        if written is None:
            return
        async with self._database.transaction() as tx:
            ended_at = recording.started_at + timedelta(seconds=written.seconds)
            await RecordingRepository(tx).finish(
                recording.id, RecordingState.FINISHED, ended_at, written.size
            )
        self._recording = self._written = None
        self._on_change()

    async def _close_after_failure(self) -> None:
        """Keep what is there; if even that fails, the next start mends it."""
        try:
            if self._file is None and self._written is None and self._recording is not None:
                async with self._database.transaction() as tx:  # the row came first, the file could not
                    await RecordingRepository(tx).finish(
                        self._recording.id, RecordingState.LOST, self._recording.started_at, 0
                    )
            await self._close()
        except (OSError, DatabaseError) as error:
            _log.error("recording left open", subject=self.subject.id, detail=str(error))
