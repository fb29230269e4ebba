"""The index of recordings: a row a file.

RecordingRepository(tx): open, finish, get, of_subject, in_sites, page, subjects, unfinished, older_than,
                         count_older_than, oldest, total_bytes, count, begin_removal, being_removed, remove
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ARRAY, ColumnElement, String, and_, any_, delete, func, literal, or_, select, update

from foundation.database import Transaction
from foundation.schema import RecordingRow

__all__ = [
    "Recording",
    "RecordingFilter",
    "RecordingKind",
    "RecordingRepository",
    "RecordingState",
    "RecordingSubject",
]


class RecordingKind(StrEnum):
    CONFERENCE = "conference"
    CAMERA = "camera"


class RecordingState(StrEnum):
    """OPEN is being written, or was when the service died. MENDED was closed after that, from what lay on
    the disk; LOST had nothing there. REMOVING is to go: nobody is told of it any more, and its row goes once
    its file has."""

    OPEN = "open"
    FINISHED = "finished"
    MENDED = "mended"
    LOST = "lost"
    REMOVING = "removing"


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


@dataclass(frozen=True, slots=True)
class RecordingFilter:
    """Which recordings; None is any. What overlaps the time from `since` to `until` is meant."""

    kind: RecordingKind | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordingSubject:
    """What there is of one subject: when it begins and ends, and its bytes."""

    kind: RecordingKind
    subject: str
    site_id: str
    first: datetime
    last: datetime
    bytes: int


_STAYS = RecordingRow.state != str(RecordingState.REMOVING)
_CLOSED = RecordingRow.state.not_in((str(RecordingState.OPEN), str(RecordingState.REMOVING)))


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

    async def set_back(self, recording_id: str, started_at: datetime) -> None:
        """An open row's media turned out to begin earlier."""
        await self._tx.execute(
            update(RecordingRow)
            .where(RecordingRow.id == recording_id, RecordingRow.state == str(RecordingState.OPEN))
            .values(started_at=started_at)
            .execution_options(synchronize_session=False)
        )

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
        return None if row is None or row.state == RecordingState.REMOVING else _recording(row)

    async def of_subject(
        self, kind: RecordingKind, subject: str, since: datetime, until: datetime
    ) -> tuple[Recording, ...]:
        """What overlaps the time from `since` to `until`, in order."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(
                RecordingRow.kind == str(kind),
                RecordingRow.subject == subject,
                _STAYS,
                RecordingRow.started_at < until,
                (RecordingRow.ended_at > since) | RecordingRow.ended_at.is_(None),
            )
            .order_by(RecordingRow.started_at, RecordingRow.id)
        )
        return tuple(_recording(row) for row in rows)

    async def in_sites(self, site_ids: Collection[str], limit: int = 500) -> tuple[Recording, ...]:
        """The newest recordings of these sites and no others."""
        return await self.page(site_ids, limit=limit)

    async def page(
        self,
        site_ids: Collection[str],
        wanted: RecordingFilter | None = None,
        *,
        after: tuple[datetime, str] | None = None,
        limit: int = 500,
    ) -> tuple[Recording, ...]:
        """Recordings of these sites and no others, the newest first; `after` is the start and id of the last
        one of the page before."""
        query = select(RecordingRow).where(self._among(site_ids), _STAYS, *_conditions(wanted))
        if after is not None:
            at, last_id = after
            same_time = and_(RecordingRow.started_at == at, RecordingRow.id < last_id)
            query = query.where(or_(RecordingRow.started_at < at, same_time))
        rows = await self._tx.scalars(
            query.order_by(RecordingRow.started_at.desc(), RecordingRow.id.desc()).limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def subjects(self, site_ids: Collection[str]) -> tuple[RecordingSubject, ...]:
        """What of these sites has recordings, by kind and subject."""
        ended = func.coalesce(RecordingRow.ended_at, RecordingRow.started_at)
        rows = await self._tx.execute(
            select(
                RecordingRow.kind,
                RecordingRow.subject,
                RecordingRow.site_id,
                func.min(RecordingRow.started_at),
                func.max(ended, type_=RecordingRow.started_at.type),
                func.coalesce(func.sum(RecordingRow.bytes), 0),
            )
            .where(self._among(site_ids), _STAYS, RecordingRow.state != str(RecordingState.LOST))
            .group_by(RecordingRow.kind, RecordingRow.subject, RecordingRow.site_id)
            .order_by(RecordingRow.kind, RecordingRow.subject)
        )
        return tuple(
            RecordingSubject(RecordingKind(kind), subject, site, first, last, int(size))
            for kind, subject, site, first, last, size in rows
        )

    def _among(self, site_ids: Collection[str]) -> ColumnElement[bool]:
        """Of these sites, in one parameter: a nation's are more than a statement may have."""
        if self._tx.get_bind().dialect.name == "postgresql":
            return RecordingRow.site_id == any_(literal(list(site_ids), ARRAY(String)))
        listed = func.json_each(json.dumps(list(site_ids))).table_valued("value")
        return RecordingRow.site_id.in_(select(listed.c.value))

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
            .where(_CLOSED, RecordingRow.ended_at < before)
            .order_by(RecordingRow.started_at, RecordingRow.id)
            .limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def count_older_than(self, before: datetime) -> int:
        """How many `older_than` would give without a limit."""
        aged = select(func.count()).select_from(RecordingRow)
        return int(await self._tx.scalar(aged.where(_CLOSED, RecordingRow.ended_at < before)) or 0)

    async def oldest(self, limit: int = 100) -> tuple[Recording, ...]:
        """Closed recordings, the oldest first."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(_CLOSED)
            .order_by(RecordingRow.started_at, RecordingRow.id)
            .limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def total_bytes(self) -> int:
        """Of all closed recordings."""
        total = await self._tx.scalar(select(func.coalesce(func.sum(RecordingRow.bytes), 0)).where(_STAYS))
        return int(total or 0)

    async def count(self) -> int:
        """How many recordings there are."""
        return int(await self._tx.scalar(select(func.count()).select_from(RecordingRow).where(_STAYS)) or 0)

    async def begin_removal(self, recording_id: str) -> bool:
        """Before its file goes; False when it is open, or gone already."""
        changed = await self._tx.execute(
            update(RecordingRow)
            .where(RecordingRow.id == recording_id, _CLOSED)
            .values(state=str(RecordingState.REMOVING))
            .returning(RecordingRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.first() is not None

    async def being_removed(self, limit: int = 100) -> tuple[Recording, ...]:
        """Those whose files are to go, the oldest first."""
        rows = await self._tx.scalars(
            select(RecordingRow)
            .where(RecordingRow.state == str(RecordingState.REMOVING))
            .order_by(RecordingRow.started_at, RecordingRow.id)
            .limit(limit)
        )
        return tuple(_recording(row) for row in rows)

    async def remove(self, recording_id: str) -> bool:
        """Take a recording whose file has gone out of the index."""
        removed = await self._tx.execute(
            delete(RecordingRow)
            .where(RecordingRow.id == recording_id, RecordingRow.state == str(RecordingState.REMOVING))
            .returning(RecordingRow.id)
        )
        return removed.first() is not None


def _conditions(wanted: RecordingFilter | None) -> list[ColumnElement[bool]]:
    if wanted is None:
        return []
    conditions: list[ColumnElement[bool]] = []
    if wanted.kind is not None:
        conditions.append(RecordingRow.kind == str(wanted.kind))
    if wanted.subject is not None:
        conditions.append(RecordingRow.subject == wanted.subject)
    if wanted.since is not None:
        conditions.append((RecordingRow.ended_at > wanted.since) | RecordingRow.ended_at.is_(None))
    if wanted.until is not None:
        conditions.append(RecordingRow.started_at < wanted.until)
    return conditions


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
