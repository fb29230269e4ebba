"""Passes of guests: `add`, `get`, `remove`, `remove_expired`, `remove_oldest`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from foundation.database import Transaction
from foundation.schema import GuestPassRow

__all__ = ["GuestPassRepository", "StoredPass"]


@dataclass(frozen=True, slots=True)
class StoredPass:
    """A pass as stored: only the token's hash is known."""

    token_hash: str
    conference_id: str
    guest_id: str
    name: str
    expires_at: datetime


class GuestPassRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, guest_pass: StoredPass) -> None:
        self._tx.add(
            GuestPassRow(
                token_hash=guest_pass.token_hash,
                conference_id=guest_pass.conference_id,
                guest_id=guest_pass.guest_id,
                name=guest_pass.name,
                expires_at=guest_pass.expires_at,
            )
        )
        await self._tx.flush()

    async def get(self, token_hash: str) -> StoredPass | None:
        row = await self._tx.get(GuestPassRow, token_hash)
        if row is None:
            return None
        return StoredPass(row.token_hash, row.conference_id, row.guest_id, row.name, row.expires_at)

    async def remove(self, token_hash: str) -> None:
        await self._tx.execute(delete(GuestPassRow).where(GuestPassRow.token_hash == token_hash))

    async def remove_expired(self, now: datetime) -> None:
        await self._tx.execute(delete(GuestPassRow).where(GuestPassRow.expires_at <= now))

    async def remove_oldest(self, most: int) -> None:
        """Keep the `most` that end last."""
        beyond = select(GuestPassRow.token_hash).order_by(GuestPassRow.expires_at.desc()).offset(most)
        await self._tx.execute(delete(GuestPassRow).where(GuestPassRow.token_hash.in_(beyond)))
