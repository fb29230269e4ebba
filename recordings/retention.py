"""Old recordings go: by age, and the oldest first where a quota is exceeded. An open one never does.

What goes is first marked and written into the audit, then its file is removed, then its row: a crash in
between leaves it marked, and the next sweep goes on with it. By age no more goes at a time than HURRY times
what ages in ordinary times: a wall clock that is years off cannot empty the archive before somebody has seen
the alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock, SystemClock
from foundation.database import Database, Transaction
from foundation.events import Event, RecordingAlarm
from foundation.repositories.recordings import Recording, RecordingRepository
from recordings.disk import Disk
from recordings.recording_folder import OutsideFolder, RecordingFolder

BATCH = 100
"""Also the failures after which a sweep ends: a disk that takes none would fail, and be told of, for each."""
SWEEP_SECONDS = 60.0
HURRY = 20
LEAST_AGED = 5
"""Recordings that may go by age in every sweep, however few there are."""
ACTOR = "recorder"

_log = structlog.get_logger("retention")


@dataclass(frozen=True, slots=True)
class Swept:
    """`failed` files could not be removed; they keep their rows and are tried again. `held` recordings were
    old enough but too many at once."""

    files: int
    bytes: int
    failed: int
    held: int = 0


class Retention:
    """`max_age` and `quota_bytes` of None are no bound. `emit` hears of an archive that ages too fast."""

    def __init__(
        self,
        database: Database,
        folder: RecordingFolder,
        disk: Disk,
        *,
        max_age: timedelta | None = None,
        quota_bytes: int | None = None,
        clock: Clock | None = None,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._disk = disk
        self._max_age = max_age
        self._quota = quota_bytes
        self._clock = clock or SystemClock()
        self._emit = emit
        self._holding = False

    async def sweep(self, now: datetime) -> Swept:
        """Remove what is due, and what an earlier sweep, or another process, has only marked."""
        held = await self._mark_aged(now)
        await self._mark_excess()
        files = size = 0
        failed: set[str] = set()
        while len(failed) < BATCH:
            async with self._database.reading() as tx:
                marked = await RecordingRepository(tx).being_removed(BATCH + len(failed))
            due = [one for one in marked if one.id not in failed]
            if not due:
                break
            for recording in due:
                if await self._remove(recording, now):
                    files += 1
                    size += recording.bytes
                else:
                    failed.add(recording.id)
        return Swept(files, size, len(failed), held)

    # --- what is to go ------------------------------------------------------------------------------

    async def _mark_aged(self, now: datetime) -> int:
        """The number of those that are held back."""
        if self._max_age is None:
            return 0
        before, held = now - self._max_age, 0
        async with self._database.transaction() as tx:
            index = RecordingRepository(tx)
            limit = self._aging(await index.count(), self._max_age)
            aged = await index.older_than(before, limit + 1)
            if len(aged) > limit:
                held = await index.count_older_than(before) - limit
            await self._mark(tx, aged[:limit], f"older than {self._max_age.total_seconds() / 86400:g} days")
        self._tell(held, aged[-1] if aged else None)
        return held

    @staticmethod
    def _aging(count: int, max_age: timedelta) -> int:
        """How many of `count` recordings may go in one sweep."""
        ordinary = count * SWEEP_SECONDS / max_age.total_seconds()
        return max(LEAST_AGED, math.ceil(HURRY * ordinary))

    def _tell(self, held: int, one: Recording | None) -> None:
        """Once, when it begins."""
        before, self._holding = self._holding, held > 0
        if not held or before or one is None:
            return
        detail = (
            f"{held} recordings more are older than they may be and go slowly: is the clock right, was the "
            "node off for long, or was the age set down?"
        )
        _log.error("retention_holds_back", held=held, oldest=str(one.started_at))
        self._emit(RecordingAlarm(str(one.kind), one.subject, one.site_id, "recordings age too fast", detail))

    async def _mark_excess(self) -> None:
        if self._quota is None:
            return
        async with self._database.transaction() as tx:
            index = RecordingRepository(tx)
            excess = await index.total_bytes() - self._quota
            due: list[Recording] = []
            while excess > 0 and (oldest := await index.oldest(BATCH)):
                due = []
                for recording in oldest:
                    if excess <= 0:
                        break
                    due.append(recording)
                    excess -= recording.bytes
                await self._mark(tx, due, f"more than {self._quota} bytes")

    async def _mark(self, tx: Transaction, due: Sequence[Recording], why: str) -> None:
        index = RecordingRepository(tx)
        marked = [one for one in due if await index.begin_removal(one.id)]
        if not marked:
            return
        about = {
            "why": why,
            "recordings": [one.id for one in marked],
            "bytes": sum(one.bytes for one in marked),
            "from": marked[0].started_at.isoformat(),
            "to": marked[-1].started_at.isoformat(),
        }
        entry = AuditEntry(ACTOR, "remove-recordings", f"recordings:{len(marked)}", detail=about)
        await AuditTrail(tx, self._clock).append(entry)

    # --- its going ----------------------------------------------------------------------------------

    async def _remove(self, recording: Recording, now: datetime) -> bool:
        try:
            await self._disk.run(self._unlink, recording.path, now - timedelta(days=1))
        except (OSError, OutsideFolder) as error:
            _log.error("recording cannot be removed", recording=recording.id, detail=str(error))
            return False
        async with self._database.transaction() as tx:
            return await RecordingRepository(tx).remove(recording.id)

    def _unlink(self, path: str, yesterday: datetime) -> None:
        file = self._folder.resolve(path)
        file.unlink(missing_ok=True)
        if file.parent.name < f"{yesterday:%Y-%m-%d}":  # a recorder may be opening a file in a later one
            with suppress(OSError):
                file.parent.rmdir()
