"""Old recordings go: by age, and the oldest first where a quota is exceeded. An open one never does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from foundation.database import Database
from foundation.repositories.recordings import Recording, RecordingRepository
from recordings.disk import Disk
from recordings.recording_folder import OutsideFolder, RecordingFolder

BATCH = 100
"""Also the failures after which a sweep ends: a disk that takes none would fail, and be told of, for each."""

_log = structlog.get_logger("retention")


@dataclass(frozen=True, slots=True)
class Swept:
    """`failed` files could not be removed; they keep their rows and are tried again."""

    files: int
    bytes: int
    failed: int


class Retention:
    """`max_age` and `quota_bytes` of None are no bound."""

    def __init__(
        self,
        database: Database,
        folder: RecordingFolder,
        disk: Disk,
        *,
        max_age: timedelta | None = None,
        quota_bytes: int | None = None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._disk = disk
        self._max_age = max_age
        self._quota = quota_bytes

    async def sweep(self, now: datetime) -> Swept:
        """Remove what is due, file before row, so that a crash in between is only swept again."""
        files = size = 0
        failed: set[str] = set()
        while len(failed) < BATCH and (due := await self._due(now, failed)):
            for recording in due:
                if await self._remove(recording, now):
                    files += 1
                    size += recording.bytes
                else:
                    failed.add(recording.id)
        return Swept(files, size, len(failed))

    async def _due(self, now: datetime, failed: set[str]) -> list[Recording]:
        """The next recordings to go, without those that could not be removed."""
        limit = BATCH + len(failed)
        async with self._database.reading() as tx:
            index = RecordingRepository(tx)
            if self._max_age is not None:
                aged = await index.older_than(now - self._max_age, limit)
                if old := [one for one in aged if one.id not in failed]:
                    return old
            if self._quota is None:
                return []
            excess = await index.total_bytes() - self._quota
            oldest = await index.oldest(limit)
        due = []
        for recording in oldest:
            if excess > 0 and recording.id not in failed:
                due.append(recording)
                excess -= recording.bytes
        return due

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
