"""The index of recordings: a row a file.

RecordingRepository(tx): open, finish, get, of_subject, in_sites, unfinished, older_than, oldest,
                         total_bytes, remove
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, func, select, update

from foundation.database import Transaction
from foundation.schema import RecordingRow

__all__ = ["Recording", "RecordingKind", "RecordingRepository", "RecordingState"]


class RecordingKind(StrEnum):
    CONFERENCE = "conference"
    CAMERA = "camera"


class RecordingState(StrEnum):
    """OPEN is being written, or was when the service died. MENDED was closed after that, from what lay on
    the disk; LOST had nothing there."""

    OPEN = "open"
    FINISHED = "finished"
    MENDED = "mended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Recording:
    """`path` is relative to the folder of recordings; `codecs` as in RFC 6381."""

    id: str
    kind: RecordingKind
    subject: str
    site_id: str
    path: str
    codecs: str
    width: int
    height: int
    started_at: datetime
    state: RecordingState = RecordingState.OPEN
    ended_at: datetime | None = None
    bytes: int = 0


class RecordingRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def open(self, recording: Recording) -> None:
        """Before the file is made."""
        self._tx.add(
            RecordingRow(
                id=recording.id,
                kind=str(recording.kind),
                subject=recording.subject,
                site_id=recording.site_id,
                path=recording.path,
                state=str(recording.state),
                codecs=recording.codecs,
                width=recording.width,
                height=recording.height,
                started_at=recording.started_at,
                ended_at=recording.ended_at,
                bytes=recording.bytes,
            )
        )
        await self._tx.flush()

    async def finish(self, recording_id: str, state: RecordingState, ended_at: datetime, size: int) -> bool:
        """Close an open row; False when it is not open (any more)."""
        changed = await self._tx.execute(
            update(RecordingRow)
            .where(RecordingRow.id == recording_id, RecordingRow.state == str(RecordingState.OPEN))
            .values(state=str(state), ended_at=ended_at, bytes=size)
            .returning(RecordingRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.first() is not None

    async def get(self, recording_id: str) -> Recording | None:
        row = await self._tx.get(RecordingRow, recording_id, populate_existing=True)
        return None if row is None else _recording(row)

    async def of_subject(
        self, kind: RecordingKind, subject: str, since: datetime, until: datetime
    ) -> tuple[Recording, ...]:
        """What overlaps the time from `since` to `until`, in order."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(
                RecordingRow.kind == str(kind),
                RecordingRow.subject == subject,
                RecordingRow.started_at < until,
                (RecordingRow.ended_at > since) | RecordingRow.ended_at.is_(None),
            )
            .order_by(RecordingRow.started_at, RecordingRow.id)
        )
        return tuple(_recording(row) for row in rows)

    async def in_sites(self, site_ids: Collection[str], limit: int = 500) -> tuple[Recording, ...]:
        """The newest recordings of these sites and no others."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(RecordingRow.site_id.in_(site_ids))
            .order_by(RecordingRow.started_at.desc(), RecordingRow.id)
            .limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def unfinished(self) -> tuple[Recording, ...]:
        """Open rows, the oldest first."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(RecordingRow.state == str(RecordingState.OPEN))
            .order_by(RecordingRow.started_at, RecordingRow.id)
        )
        return tuple(_recording(row) for row in rows)

    async def older_than(self, before: datetime, limit: int = 500) -> tuple[Recording, ...]:
        """Closed recordings that ended before `before`, the oldest first."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(RecordingRow.state != str(RecordingState.OPEN), RecordingRow.ended_at < before)
            .order_by(RecordingRow.started_at, RecordingRow.id)
            .limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def oldest(self, limit: int = 100) -> tuple[Recording, ...]:
        """Closed recordings, the oldest first."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(RecordingRow.state != str(RecordingState.OPEN))
            .order_by(RecordingRow.started_at, RecordingRow.id)
            .limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def total_bytes(self) -> int:
        """Of all closed recordings."""
        total = await self._tx.scalar(select(func.coalesce(func.sum(RecordingRow.bytes), 0)))
        return int(total or 0)

    async def remove(self, recording_id: str) -> bool:
        """Take a closed recording out of the index; an open one stays."""
        removed = await self._tx.execute(
            delete(RecordingRow)
            .where(RecordingRow.id == recording_id, RecordingRow.state != str(RecordingState.OPEN))
            .returning(RecordingRow.id)
        )
        return removed.first() is not None


def _recording(row: RecordingRow) -> Recording:
    return Recording(
        id=row.id,
        kind=RecordingKind(row.kind),
        subject=row.subject,
        site_id=row.site_id,
        path=row.path,
        codecs=row.codecs,
        width=row.width,
        height=row.height,
        started_at=row.started_at,
        state=RecordingState(row.state),
        ended_at=row.ended_at,
        bytes=row.bytes,
    )
