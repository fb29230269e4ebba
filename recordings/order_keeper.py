"""Keeps one order: records its stream, again when it ends, and says how that goes."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from foundation.clock import Clock
from foundation.database import Database, DatabaseError
from foundation.desks import RecordingOrder, RecordingStatus
from foundation.events import Event, RecordingAlarm, RecordingChanged
from foundation.repositories.recordings import RecordingKind
from foundation.tasks import Backoff, TaskScope
from media.codec_worker import CodecPool
from media.fragments import UnsupportedFormat
from media.opus_sound import UnsupportedSound, as_opus
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamSource, StreamUnavailable
from recordings.disk import Disk
from recordings.mending import mend_unfinished
from recordings.recorder import (
    FILE_SECONDS,
    RESERVE_BYTES,
    EndCause,
    LastFrame,
    Recorder,
    RecordingEnded,
    Subject,
)
from recordings.recording_folder import RecordingFolder

SOUND_SECONDS = 1.0
"""How long the first file waits for sound; later sound begins another file."""
SOUND_AGAIN_SECONDS = 10.0
UNFIT_SECONDS = 15.0
"""Until a stream that cannot be recorded is tried again: it may have been set up otherwise."""
INDEX_SECONDS = 5.0
SILENT_SECONDS = 10.0
"""Without a picture for so long nothing is being recorded, whatever else is well."""
ROOM_TO_BEGIN = 16 << 20
"""Beside the reserve, before a recording that a full disk stopped begins again."""
STOP_SECONDS = 3.0

_log = structlog.get_logger("order_keeper")


@dataclass(frozen=True, slots=True)
class RecordingParts:
    """What every recording of a process shares."""

    source: StreamSource
    folder: RecordingFolder
    database: Database
    disk: Disk
    clock: Clock
    pool: CodecPool
    emit: Callable[[Event], None]
    file_seconds: float = FILE_SECONDS
    reserve_bytes: int = RESERVE_BYTES
    fault_seconds: float = 60.0
    """Until a recording that a fault of the disk stopped is tried again."""


class OrderKeeper:
    """`run` until `aclose`. Status and events say what becomes of the order."""

    def __init__(self, order: RecordingOrder, parts: RecordingParts) -> None:
        self.order = order
        self._parts = parts
        self._subject = Subject(RecordingKind(order.kind), order.subject, order.site_id)
        self._state, self._detail = "waiting", "not begun yet"
        self._since = parts.clock.now().timestamp()
        self._sound_detail = ""
        self._fault: EndCause | None = None
        self._files = self._bytes = self._dropped = 0
        self._recorder: Recorder | None = None
        self._last: LastFrame | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> RecordingStatus:
        recorder, state, detail = self._recorder, self._state, self._detail
        files, size, dropped = self._files, self._bytes, self._dropped
        if recorder is not None:
            files, size = files + recorder.files, size + recorder.bytes
            dropped += recorder.dropped
            silent = self._parts.clock.monotonic() - (recorder.last_frame or 0.0)
            if state == "recording" and silent > SILENT_SECONDS:
                state, detail = "waiting", f"no picture has come for {silent:.0f} s"
        if state == "recording":
            detail = self._sound_detail
        return RecordingStatus(
            self.order.kind, self.order.subject, state, detail, self._since, files, size, dropped
        )

    def start(self, scope: TaskScope) -> None:
        """Keep the order in `scope`; to be called once."""
        self._task = scope.supervise(f"{self.order.kind}.{self.order.subject}", self.run)

    async def aclose(self) -> None:
        """Close the file and end; what takes too long is left for the next start to mend."""
        self._stopping.set()
        if self._recorder is not None:
            self._recorder.stop()
        elif self._task is not None:
            self._task.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self) -> None:
        """Record, wait, record again."""
        backoff = Backoff(first=0.3, limit=5.0)
        while not self._stopping.is_set():
            delay = await self._attempt(backoff)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def _attempt(self, backoff: Backoff) -> float:
        """Record once; the seconds until the next time."""
        if self._fault is EndCause.DISK_FULL and await self._full():
            return self._parts.fault_seconds
        try:
            if self._fault is not None:
                await self._mend()
            async with self._parts.source.open(self.order.stream_id) as video:
                ended = await self._record(video)
        except StreamUnavailable as error:
            self._say("waiting", str(error))
            return backoff.next_delay()
        except UnsupportedFormat as error:
            self._say("failed", str(error))
            return UNFIT_SECONDS
        except DatabaseError as error:
            self._say("failed", f"{EndCause.INDEX_FAILED}: {error}")
            return self._again(EndCause.INDEX_FAILED)
        if ended.cause.alarm:
            self._alarm(ended)
            return self._again(ended.cause)
        if ended.files:
            backoff.reset()
        self._say("waiting", "the stream ended; it is opened again")
        return backoff.next_delay()

    async def _record(self, video: Stream) -> RecordingEnded:
        recorder = self._recorder = Recorder(
            self._subject,
            self._parts.folder,
            self._parts.database,
            self._parts.disk,
            self._parts.clock,
            file_seconds=self._parts.file_seconds,
            reserve_bytes=self._parts.reserve_bytes,
            on_change=self._changed,
            before=self._last,
        )
        self._say("waiting", "the stream is open; the first key frame has not come yet")
        asked = asyncio.Event()
        hearing = asyncio.create_task(self._hear(recorder, asked), name=f"sound.{self._subject.id}")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(SOUND_SECONDS):
                    await asked.wait()
            ended = await recorder.run(video)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            self._recorder = None
            self._last = recorder.last
            self._files += recorder.files
            self._bytes += recorder.bytes
            self._dropped += recorder.dropped
        return ended

    async def _hear(self, recorder: Recorder, asked: asyncio.Event) -> None:
        """Sound beside the pictures, whenever there is some; its faults are told and harm nothing."""
        while True:
            try:
                async with (
                    self._parts.source.open(f"{self.order.stream_id}/sound") as sound,
                    as_opus(sound, self._parts.pool) as fit,
                ):
                    self._sound_detail = ""
                    asked.set()
                    await recorder.listen(fit)
            except NoSuchStream:
                pass  # it has no sound, or none yet
            except (StreamUnavailable, UnsupportedSound, UnsupportedFormat) as error:
                self._sound_detail = f"without sound: {error}"
            asked.set()
            await asyncio.sleep(SOUND_AGAIN_SECONDS)

    async def _mend(self) -> None:
        """Close what the fault left open. Raises DatabaseError."""
        parts = self._parts
        subject = (self._subject.kind, self._subject.id)
        await mend_unfinished(parts.database, parts.folder, parts.disk, subject)

    def _again(self, cause: EndCause) -> float:
        """Seconds until the next attempt after a fault; a database is soon free again."""
        return min(self._parts.fault_seconds, INDEX_SECONDS if cause is EndCause.INDEX_FAILED else math.inf)

    async def _full(self) -> bool:
        free = await self._parts.disk.run(free_bytes, self._parts.folder)
        return free < self._parts.reserve_bytes + ROOM_TO_BEGIN

    def _alarm(self, ended: RecordingEnded) -> None:
        """Told once, until it works again or another fault takes its place."""
        again = f"tried again every {self._again(ended.cause):g} s"
        self._say("failed", f"{ended.cause}: {ended.detail}; {again}")
        if self._fault is ended.cause:
            return
        self._fault = ended.cause
        order = self.order
        self._parts.emit(
            RecordingAlarm(order.kind, order.subject, order.site_id, str(ended.cause), ended.detail)
        )

    def _changed(self) -> None:
        """The recorder began or closed a file."""
        if self._recorder is None or not self._recorder.files or self._state == "recording":
            return
        if self._fault is not None:
            _log.info("recording works again", subject=self.order.subject, after=str(self._fault))
            self._fault = None
        self._say("recording", "")

    def _say(self, state: str, detail: str) -> None:
        changed, self._state, self._detail = state != self._state, state, detail
        if changed:
            self._since = self._parts.clock.now().timestamp()
            order = self.order
            self._parts.emit(RecordingChanged(order.kind, order.subject, order.site_id))


def free_bytes(folder: RecordingFolder) -> int:
    """Of the file system that the recordings lie on; blocks."""
    return disk_usage(folder)[1]


def disk_usage(folder: RecordingFolder) -> tuple[int, int]:
    """Total and free bytes where the recordings lie or will lie; blocks."""
    root = folder.root.absolute()
    there = next((one for one in (root, *root.parents) if one.is_dir()), root)
    usage = shutil.disk_usage(there)
    return usage.total, usage.free
