"""When to ask a sender for a key frame: coalesced, rate-limited, repeated until it comes."""

from __future__ import annotations

_MAX_BACKOFF = 8.0
_QUICK = 0.3
"""Seconds between requests of which the earlier was answered: its key frame is used up, another is needed."""
_AT_ONCE = 3
"""Quick requests in a row; each `spacing` allows one more, so that many switches cost no more than before."""


class KeyframeRequests:
    """Times are monotonic seconds. `spacing` is the shortest time between two requests, in the mean.

    A request whose key frame came may be followed sooner by the next, since that key frame has been used up.
    """

    def __init__(self, spacing: float = 1.0) -> None:
        self._spacing = spacing
        self._due: float | None = None
        self._last: float | None = None
        self._backoff = spacing
        self._answered = False
        self._spare = float(_AT_ONCE)

    def want(self, now: float, grace: float = 0.0) -> None:
        """A key frame is needed; ask after `grace` seconds unless it has come by itself."""
        if self._due is None:
            earliest = now + grace
            self._due = earliest if self._last is None else max(earliest, self._last + self._pause(now))

    def _pause(self, now: float) -> float:
        """From the last request to the next."""
        quick = min(_QUICK, self._spacing)
        saved = self._spare + (now - (self._last or now)) / self._spacing
        return quick if self._answered and saved >= 1 else self._spacing

    def insist(self, now: float) -> None:
        """Somebody needs a key frame at once, however recent the last request is."""
        self._due = now

    def came(self) -> None:
        self._due = None
        self._backoff = self._spacing
        self._answered = True

    def due(self, now: float) -> bool:
        """Whether to send a request now; then counts as sent, and comes again at growing intervals."""
        if self._due is None or now < self._due:
            return False
        if self._last is not None:
            self._spare = min(_AT_ONCE, self._spare + (now - self._last) / self._spacing)
        self._spare = max(0.0, self._spare - 1)
        self._last = now
        self._answered = False
        self._due = now + self._backoff
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)
        return True

    @property
    def deadline(self) -> float | None:
        return self._due
