"""Who did what, in a chain of hashes that shows any row changed, removed or put in later.

    async with database.transaction() as tx:
        ...                                                     # the deed itself
        await AuditTrail(tx, clock).append(AuditEntry(actor.name, "grant-roles", "user:liu", "done"))
    report = await verify(database)                             # report.broken_at: first bad sequence number

hash = SHA-256 of the previous row's hash (64 hex digits) + canonical JSON of the row. Appending takes a
lock until the transaction ends: append last. A cut-off tail leaves a valid shorter chain, so
whoever needs to prove completeness keeps `head()` elsewhere and hands it to `verify` as `expected`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.repositories.audit import AuditRecord, AuditRepository

__all__ = ["GENESIS", "AuditEntry", "AuditHead", "AuditReport", "AuditTrail", "chain_hash", "head", "verify"]

GENESIS = "0" * 64
"""The "previous hash" of the first row."""

_PAGE = 500


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is to be recorded: who (`actor`), did what (`action`), to what (`subject`), with what `outcome`.

    `outcome` is "done", "refused" or "failed"; `address` is where the request came from.
    """

    actor: str
    action: str
    subject: str = ""
    outcome: str = "done"
    address: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of the chain."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """`broken_at` is the sequence number of the first row that does not follow; None when all do."""

    rows: int
    broken_at: int | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.broken_at is None


class AuditTrail:
    """Appends within one transaction: the row stands or falls with the deed."""

    def __init__(self, tx: Transaction, clock: Clock) -> None:
        self._rows = AuditRepository(tx)
        self._clock = clock

    async def append(self, entry: AuditEntry) -> AuditRecord:
        """Add one row; concurrent appends, from other processes too, wait for one another."""
        await self._rows.lock()
        last = await self._rows.last()
        detail = canonical_json(entry.detail)
        unchained = AuditRecord(
            sequence=last.sequence + 1 if last else 1,
            at=self._clock.now(),
            actor=_storable(entry.actor, 64),
            action=_storable(entry.action, 64),
            subject=_storable(entry.subject, 200),
            outcome=_storable(entry.outcome, 16),
            address=_storable(entry.address, 64),
            detail=detail,
            previous_hash=last.hash if last else GENESIS,
            hash="",
        )
        record = unchained.chained(chain_hash(unchained))
        await self._rows.add(record)
        return record


def canonical_json(value: object) -> str:
    """One spelling for one value: sorted keys, no spaces, pure ASCII, no NaN. Raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def chain_hash(record: AuditRecord) -> str:
    """The hash the row should have, 64 hex digits."""
    content = canonical_json(
        {
            "sequence": record.sequence,
            "at": record.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "actor": record.actor,
            "action": record.action,
            "subject": record.subject,
            "outcome": record.outcome,
            "address": record.address,
            "detail": record.detail,
        }
    )
    return hashlib.sha256((record.previous_hash + content).encode("ascii")).hexdigest()


async def head(database: Database) -> AuditHead | None:
    """The last row's number and hash, to be kept elsewhere; None for an empty chain."""
    async with database.reading() as tx:
        last = await AuditRepository(tx).last()
    return AuditHead(last.sequence, last.hash) if last else None


async def verify(database: Database, expected: AuditHead | None = None) -> AuditReport:
    """Walk the chain from its first row. `expected`, a head kept elsewhere, must still be in it."""
    previous, rows = GENESIS, 0
    seen_expected = expected is None
    while True:
        async with database.reading() as tx:
            page = await AuditRepository(tx).after(rows, _PAGE)
        for record in page:
            reason = _fault(record, rows + 1, previous)
            if reason:
                return AuditReport(rows, rows + 1, reason)
            rows, previous = rows + 1, record.hash
            if expected is not None and rows == expected.sequence:
                if record.hash != expected.hash:
                    return AuditReport(rows, rows, f"row {rows} is not the one recorded as the head")
                seen_expected = True
        if not page:
            break
    if not seen_expected:
        return AuditReport(rows, rows + 1, f"the chain ends after row {rows}; later rows were removed")
    return AuditReport(rows)


def _fault(record: AuditRecord, sequence: int, previous: str) -> str:
    if record.sequence != sequence:
        return f"row {sequence} is missing"
    if record.previous_hash != previous:
        return f"row {sequence} does not follow the row before it"
    if record.hash != chain_hash(record):
        return f"row {sequence} was altered"
    return ""


def _storable(value: str, longest: int) -> str:
    """What every database takes: no NUL, no lone surrogates, not too long (names may come from strangers)."""
    clean = value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"
