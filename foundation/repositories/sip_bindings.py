"""Where registered SIP terminals are (RFC 3261 10), so that a restart forgets none.

SipBindingRepository(tx): of, replace, all, forget_expired
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from foundation.database import Transaction
from foundation.schema import SipAccountRow, SipBindingRow

__all__ = ["LONGEST_CONTACT", "SipBinding", "SipBindingRepository"]

LONGEST_CONTACT = 500
"""Characters of a contact's URI, and of its parameters."""


@dataclass(frozen=True, slots=True)
class SipBinding:
    """One contact of an account. `q` is in thousandths; network to port are where its REGISTER came from,
    `latched` says that it is reached there, whatever the contact says."""

    username: str
    realm: str
    contact: str
    parameters: str
    q: int
    call_key: str
    cseq: int
    registered_at: datetime
    expires_at: datetime
    network: str
    transport: str
    host: str
    port: int
    latched: bool
    user_agent: str = ""


class SipBindingRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def of(self, username: str, realm: str) -> tuple[SipBinding, ...]:
        """The bindings of an account, expired ones too, the oldest first."""
        row = SipBindingRow
        found = select(row).where(row.username == username, row.realm == realm)
        return tuple(_binding(one) for one in await self._tx.scalars(found.order_by(row.registered_at)))

    async def replace(self, username: str, realm: str, bindings: Iterable[SipBinding]) -> None:
        """From now on the account has these and no others."""
        row = SipBindingRow
        await self._tx.execute(delete(row).where(row.username == username, row.realm == realm))
        self._tx.expire_all()
        self._tx.add_all([_row(binding) for binding in bindings])
        await self._tx.flush()

    async def all(self, now: datetime) -> tuple[tuple[SipBinding, str], ...]:
        """Every binding that has not expired, with its account's site, by account."""
        row, account = SipBindingRow, SipAccountRow
        found = await self._tx.execute(
            select(row, account.site_id)
            .join(account, (account.username == row.username) & (account.realm == row.realm))
            .where(row.expires_at > now)
            .order_by(row.username, row.q.desc(), row.registered_at)
        )
        return tuple((_binding(one[0]), one[1]) for one in found)

    async def forget_expired(self, now: datetime) -> int:
        """How many rows went."""
        row = SipBindingRow
        gone = await self._tx.execute(delete(row).where(row.expires_at <= now).returning(row.contact))
        return len(gone.all())


def _row(binding: SipBinding) -> SipBindingRow:
    return SipBindingRow(
        username=binding.username,
        realm=binding.realm,
        contact=binding.contact,
        parameters=binding.parameters,
        q=binding.q,
        call_key=binding.call_key,
        cseq=binding.cseq,
        registered_at=binding.registered_at,
        expires_at=binding.expires_at,
        network=binding.network,
        transport=binding.transport,
        host=binding.host,
        port=binding.port,
        latched=binding.latched,
        user_agent=binding.user_agent,
    )


def _binding(row: SipBindingRow) -> SipBinding:
    return SipBinding(
        username=row.username,
        realm=row.realm,
        contact=row.contact,
        parameters=row.parameters,
        q=row.q,
        call_key=row.call_key,
        cseq=row.cseq,
        registered_at=row.registered_at,
        expires_at=row.expires_at,
        network=row.network,
        transport=row.transport,
        host=row.host,
        port=row.port,
        latched=row.latched,
        user_agent=row.user_agent,
    )
