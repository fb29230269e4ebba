"""Records of roll calls: who was called when, who was there.

RollCallRepository(tx): save, close, of
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update

from foundation.database import Transaction
from foundation.schema import RollCallEntryRow, RollCallRow

__all__ = ["CalledSite", "RollCallRecord", "RollCallRepository"]


@dataclass(frozen=True, slots=True)
class CalledSite:
    """One site of a roll call; `mark` is waiting, called, present or absent."""

    participant_id: str
    name: str
    site_id: str | None
    mark: str
    called_at: datetime | None = None
    marked_at: datetime | None = None
    marked_by: str | None = None


@dataclass(frozen=True, slots=True)
class RollCallRecord:
    """Under way until `ended_at`."""

    id: str
    conference_id: str
    started_by: str
    started_at: datetime
    sites: tuple[CalledSite, ...]
    ended_at: datetime | None = None


class RollCallRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def save(self, record: RollCallRecord) -> None:
        """Write the record as it is now, in place of what there was of it."""
        if await self._tx.get(RollCallRow, record.id) is None:
            self._tx.add(
                RollCallRow(
                    id=record.id,
                    conference_id=record.conference_id,
                    started_by=record.started_by,
                    started_at=record.started_at,
                    ended_at=record.ended_at,
                )
            )
            await self._tx.flush()
        await self._tx.execute(delete(RollCallEntryRow).where(RollCallEntryRow.roll_call_id == record.id))
        for position, site in enumerate(record.sites):
            self._tx.add(
                RollCallEntryRow(
                    roll_call_id=record.id,
                    position=position,
                    participant_id=site.participant_id,
                    name=site.name,
                    site_id=site.site_id,
                    mark=site.mark,
                    called_at=site.called_at,
                    marked_at=site.marked_at,
                    marked_by=site.marked_by,
                )
            )
        await self._tx.flush()

    async def close(self, conference_id: str, at: datetime, but: str | None = None) -> None:
        """The conference's roll calls are over, `but` for one."""
        running = update(RollCallRow).where(
            RollCallRow.conference_id == conference_id, RollCallRow.ended_at.is_(None)
        )
        if but is not None:
            running = running.where(RollCallRow.id != but)
        await self._tx.execute(running.values(ended_at=at).execution_options(synchronize_session=False))

    async def of(self, conference_id: str) -> tuple[RollCallRecord, ...]:
        """The conference's records, the latest first."""
        rows = await self._tx.scalars(
            select(RollCallRow)
            .where(RollCallRow.conference_id == conference_id)
            .order_by(RollCallRow.started_at.desc(), RollCallRow.id)
        )
        return tuple([await self._record(row) for row in rows])

    async def _record(self, row: RollCallRow) -> RollCallRecord:
        entries = await self._tx.scalars(
            select(RollCallEntryRow)
            .where(RollCallEntryRow.roll_call_id == row.id)
            .order_by(RollCallEntryRow.position)
        )
        sites = tuple(
            CalledSite(e.participant_id, e.name, e.site_id, e.mark, e.called_at, e.marked_at, e.marked_by)
            for e in entries
        )
        return RollCallRecord(row.id, row.conference_id, row.started_by, row.started_at, sites, row.ended_at)
