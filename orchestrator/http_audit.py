"""The audit over HTTP: the auditor reads it, and has its chain of hashes checked."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from foundation.audit import AuditEntry, AuditHead, AuditReport, AuditTrail, head, verify
from foundation.authorisation import Action
from foundation.clock import Clock
from foundation.database import Database
from foundation.http_edge import Exchange, Route, Wanted
from foundation.repositories.audit import AuditRecord, AuditRepository

AUDIT = "/api/v1/audit"


class AuditQuery(Wanted):
    after: int = Field(
        default=0, ge=0, lt=2**63, description="the sequence number of the last row already read"
    )
    limit: int = Field(default=500, ge=1, le=1000)


class AuditRowOut(BaseModel):
    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    outcome: str
    address: str
    detail: Any
    previous_hash: str
    hash: str


class HeadOut(BaseModel):
    """The end of the chain: kept elsewhere, it later proves that no row after it was cut off."""

    sequence: int
    hash: str


class VerificationOut(BaseModel):
    intact: bool
    rows: int
    broken_at: int | None
    reason: str
    head: HeadOut | None


class AuditRoutes:
    """One verification at a time: whoever asks meanwhile waits, then has the chain walked anew."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._walking = asyncio.Lock()

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                "GET",
                AUDIT,
                self.read,
                "Rows of the audit, oldest first",
                Action.READ_AUDIT,
                query=AuditQuery,
                returns=list[AuditRowOut],
            ),
            Route(
                "GET",
                f"{AUDIT}/verification",
                self.verify,
                "Whether the chain of hashes holds",
                Action.VERIFY_AUDIT,
                returns=VerificationOut,
            ),
        )

    async def read(self, exchange: Exchange) -> list[AuditRowOut]:
        wanted = exchange.asked(AuditQuery)
        async with self._database.reading() as tx:
            records = await AuditRepository(tx).after(wanted.after, wanted.limit)
        return [_out(record) for record in records]

    async def verify(self, exchange: Exchange) -> VerificationOut:
        async with self._walking:
            end = await head(self._database)
            report = await verify(self._database, end)
        await self._note(exchange, report)
        return _report(report, end)

    async def _note(self, exchange: Exchange, report: AuditReport) -> None:
        detail = {"rows": report.rows, "broken_at": report.broken_at}
        outcome = "done" if report else "failed"
        entry = AuditEntry(exchange.name, "verify-audit", "audit", outcome, exchange.address, detail)
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)


def _report(report: AuditReport, end: AuditHead | None) -> VerificationOut:
    return VerificationOut(
        intact=bool(report),
        rows=report.rows,
        broken_at=report.broken_at,
        reason=report.reason,
        head=None if end is None else HeadOut(sequence=end.sequence, hash=end.hash),
    )


def _out(record: AuditRecord) -> AuditRowOut:
    return AuditRowOut(
        sequence=record.sequence,
        at=record.at,
        actor=record.actor,
        action=record.action,
        subject=record.subject,
        outcome=record.outcome,
        address=record.address,
        detail=_detail(record.detail),
        previous_hash=record.previous_hash,
        hash=record.hash,
    )


def _detail(text: str) -> Any:
    """The detail as a value; what is no JSON was altered, and is shown as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text
