"""Passes of guests: whoever knows a meeting's number and PIN may join it, for a while, and nothing else."""

from __future__ import annotations

import hashlib
import secrets

from foundation.clock import Clock
from foundation.http_edge import Guest

PREFIX = "guest."
"""Tells a pass from the token of a session, which never holds a full stop."""
LIFETIME = 12 * 3600.0
MAX_PASSES = 10_000


class GuestPasses:
    """Kept in memory only: a restart asks guests for the PIN again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passes: dict[str, tuple[Guest, float]] = {}

    def __len__(self) -> int:
        return len(self._passes)

    def issue(self, guest: Guest) -> str:
        """A new token. When there are too many, the oldest pass ends."""
        self._forget_expired()
        while len(self._passes) >= MAX_PASSES:
            del self._passes[next(iter(self._passes))]
        token = PREFIX + secrets.token_urlsafe(32)
        self._passes[_hash(token)] = (guest, self._clock.monotonic() + LIFETIME)
        return token

    def resolve(self, token: str) -> Guest | None:
        found = self._passes.get(_hash(token))
        if found is None or found[1] <= self._clock.monotonic():
            return None
        return found[0]

    def end(self, token: str) -> None:
        self._passes.pop(_hash(token), None)

    def _forget_expired(self) -> None:
        """All live equally long, so the oldest are the first to go."""
        now = self._clock.monotonic()
        for key, (_guest, ends) in tuple(self._passes.items()):
            if ends > now:
                return
            del self._passes[key]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
