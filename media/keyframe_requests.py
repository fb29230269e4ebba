"""When to ask a sender for a key frame: coalesced, rate-limited, repeated until it comes."""

from __future__ import annotations

_MAX_BACKOFF = 8.0


class KeyframeRequests:
    """Times are monotonic seconds. `spacing` is the shortest time between two requests."""

    def __init__(self, spacing: float = 1.0) -> None:
        self._spacing = spacing
        self._due: float | None = None
        self._last: float | None = None
        self._backoff = spacing

    def want(self, now: float, grace: float = 0.0) -> None:
        """A key frame is needed; ask after `grace` seconds unless it has come by itself."""
        if self._due is None:
            earliest = now + grace
            self._due = earliest if self._last is None else max(earliest, self._last + self._spacing)

    def insist(self, now: float) -> None:
        """Somebody needs a key frame at once, however recent the last request is."""
        self._due = now

    def came(self) -> None:
        self._due = None
        self._backoff = self._spacing

    def due(self, now: float) -> bool:
        """Whether to send a request now; then counts as sent, and comes again at growing intervals."""
        if self._due is None or now < self._due:
            return False
        self._last = now
        self._due = now + self._backoff
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF)
        return True

    @property
    def deadline(self) -> float | None:
        return self._due
