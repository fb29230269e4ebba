"""What an earlier life left open is closed, from what lies on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog

from foundation.database import Database
from foundation.repositories.recordings import Recording, RecordingKind, RecordingRepository, RecordingState
from recordings.disk import Disk
from recordings.recording_folder import OutsideFolder, RecordingFolder
from recordings.segment_file import Written, mend_file

_log = structlog.get_logger("mending")


@dataclass(frozen=True, slots=True)
class MendResult:
    """`failed` files could not be read or written; their rows stay open for the next start."""

    mended: int = 0
    lost: int = 0
    failed: int = 0


async def mend_unfinished(
    database: Database,
    folder: RecordingFolder,
    disk: Disk,
    subject: tuple[RecordingKind, str] | None = None,
) -> MendResult:
    """Close every open row, or those of one subject.

    To be called before any recorder, or one of the subject, starts; by the one service of this folder.
    """
    async with database.reading() as tx:
        unfinished = await RecordingRepository(tx).unfinished()
    if subject is not None:
        unfinished = tuple(one for one in unfinished if (one.kind, one.subject) == subject)
    mended = lost = failed = 0
    for recording in unfinished:
        try:
            written = await disk.run(_mend, folder, recording)
        except (OSError, OutsideFolder) as error:
            _log.error("recording cannot be mended", recording=recording.id, detail=str(error))
            failed += 1
            continue
        await _finish(database, recording, written)
        mended += written is not None
        lost += written is None
    return MendResult(mended, lost, failed)


def _mend(folder: RecordingFolder, recording: Recording) -> Written | None:
    return mend_file(folder.resolve(recording.path))


async def _finish(database: Database, recording: Recording, written: Written | None) -> None:
    state = RecordingState.LOST if written is None else RecordingState.MENDED
    found = written or Written(0, 0.0)
    async with database.transaction() as tx:
        ended_at = recording.started_at + timedelta(seconds=found.seconds)
        await RecordingRepository(tx).finish(recording.id, state, ended_at, found.size)
