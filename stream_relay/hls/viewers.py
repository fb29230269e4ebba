"""Who watches: distinct players that asked for the playlist in the last seconds.

The multivariant playlist names the media playlist with a random `v` of its own, which the player then
repeats with every reload: no cookie, nothing kept at the viewer, and a thousand viewers behind one address
are a thousand. Parts and segments carry no `v`, so that caches hold them once; the media playlist is the same
text for everybody (a cache in front may leave `v` out of its key, and then the count is what reaches us). A
player that comes without one counts by its address and user agent.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict

from foundation.clock import Clock

SEEN_SECONDS = 10.0
REMEMBERED = 200_000
"""Viewers known at once; who was not seen for the longest time goes first."""
_KEY = re.compile(r"[A-Za-z0-9_-]{8,16}")


def new_key() -> str:
    """A viewer's `v`."""
    return secrets.token_urlsafe(9)


class Viewers:
    """Counts the viewers of one broadcast. Asking costs what has expired since the last time."""

    def __init__(self, clock: Clock, *, seconds: float = SEEN_SECONDS, remembered: int = REMEMBERED) -> None:
        self._clock = clock
        self._seconds = seconds
        self._remembered = remembered
        self._seen: OrderedDict[str, float] = OrderedDict()

    def saw(self, key: str | None, address: str, agent: str) -> None:
        """One asked for the playlist: with its key, or else known by address and user agent."""
        who = key if key is not None and _KEY.fullmatch(key) else f"{address} {agent[:200]}"
        self._seen[who] = self._clock.monotonic()
        self._seen.move_to_end(who)
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)

    @property
    def count(self) -> int:
        limit = self._clock.monotonic() - self._seconds
        while self._seen and next(iter(self._seen.values())) < limit:
            self._seen.popitem(last=False)
        return len(self._seen)
