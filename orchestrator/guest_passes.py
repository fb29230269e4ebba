"""Passes of guests: whoever knows a meeting's number and PIN may join it, for a while, and nothing else."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from foundation.clock import Clock
from foundation.database import Database
from foundation.http_edge import Guest
from foundation.repositories.guest_passes import GuestPassRepository, StoredPass

PREFIX = "guest."
"""Tells a pass from the token of a session, which never holds a full stop."""
LIFETIME = timedelta(hours=12)
MAX_PASSES = 10_000


class GuestPasses:
    """Kept in the database: who is in a meeting stays in it while main starts anew."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def issue(self, guest: Guest) -> str:
        """A new token. When there are too many, the oldest pass ends."""
        token, now = PREFIX + secrets.token_urlsafe(32), self._clock.now()
        async with self._database.transaction() as tx:
            passes = GuestPassRepository(tx)
            await passes.remove_expired(now)
            await passes.add(
                StoredPass(_hash(token), guest.conference_id, guest.id, guest.name, now + LIFETIME)
            )
            await passes.remove_oldest(MAX_PASSES)
        return token

    async def resolve(self, token: str) -> Guest | None:
        async with self._database.reading() as tx:
            found = await GuestPassRepository(tx).get(_hash(token))
        if found is None or found.expires_at <= self._clock.now():
            return None
        return Guest(found.conference_id, found.name, found.guest_id)

    async def end(self, token: str) -> None:
        async with self._database.transaction() as tx:
            await GuestPassRepository(tx).remove(_hash(token))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
