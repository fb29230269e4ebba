"""The audit chain's rows; foundation.audit makes and checks the chain itself.

AuditRepository(tx): lock, last, add, after, search
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select, text

from foundation.database import Transaction
from foundation.schema import AuditRow

__all__ = ["AuditRecord", "AuditRepository"]

_ADVISORY_LOCK = 0x616E73686A


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A row as stored; `detail` is canonical JSON text."""

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    outcome: str
    address: str
    detail: str
    previous_hash: str
    hash: str

    def chained(self, chain_hash: str) -> AuditRecord:
        return replace(self, hash=chain_hash)


class AuditRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def lock(self) -> None:
        """Be the only one to append until the transaction ends (on SQLite a writing one already is)."""
        if self._tx.get_bind().dialect.name == "postgresql":
            await self._tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})

    async def last(self) -> AuditRecord | None:
        row = await self._tx.scalar(select(AuditRow).order_by(AuditRow.sequence.desc()).limit(1))
        return _record(row) if row else None

    async def add(self, record: AuditRecord) -> None:
        self._tx.add(
            AuditRow(
                sequence=record.sequence,
                at=record.at,
                actor=record.actor,
                action=record.action,
                subject=record.subject,
                outcome=record.outcome,
                address=record.address,
                detail=record.detail,
                previous_hash=record.previous_hash,
                hash=record.hash,
            )
        )
        await self._tx.flush()

    async def after(self, sequence: int, limit: int) -> tuple[AuditRecord, ...]:
        """Rows that come after `sequence`, in order."""
        wanted = select(AuditRow).where(AuditRow.sequence > sequence).order_by(AuditRow.sequence).limit(limit)
        return tuple(_record(row) for row in await self._tx.scalars(wanted))

    async def search(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        subjects: Collection[str] | None = None,
        limit: int = 100,
    ) -> tuple[AuditRecord, ...]:
        """Newest first; `since` <= at < `until`; `before` is a sequence number, to page on; `subjects` are
        exact ("conference:..."), a few hundred at most."""
        wanted = select(AuditRow).order_by(AuditRow.sequence.desc()).limit(limit)
        if actor is not None:
            wanted = wanted.where(AuditRow.actor == actor)
        if action is not None:
            wanted = wanted.where(AuditRow.action == action)
        if since is not None:
            wanted = wanted.where(AuditRow.at >= since)
        if until is not None:
            wanted = wanted.where(AuditRow.at < until)
        if subjects is not None:
            wanted = wanted.where(AuditRow.subject.in_(subjects))
        if before is not None:
            wanted = wanted.where(AuditRow.sequence < before)
        return tuple(_record(row) for row in await self._tx.scalars(wanted))


def _record(row: AuditRow) -> AuditRecord:
    return AuditRecord(
        sequence=row.sequence,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        outcome=row.outcome,
        address=row.address,
        detail=row.detail,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
