"""Slows guessing: each wrong attempt on a key doubles the wait before the next.

throttle = AttemptThrottle(clock)
wait = throttle.attempt("account:liu")      # 0.0: go on, and this counts as wrong until it succeeds
throttle.succeeded("account:liu")           # forget it
throttle.undo("address:10.0.0.7")           # take just this attempt back
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from foundation.clock import Clock

__all__ = ["AttemptThrottle"]


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    refused: int = 0


class AttemptThrottle:
    """`free` wrong attempts cost nothing, then the wait is `first` seconds, doubling up to `limit`.

    An attempt is counted when it begins, so that many at once gain nothing. A key that rested for `forget`
    seconds starts afresh. At most `capacity` keys are remembered; the longest unused goes first and `evicted`
    counts them.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        free: int = 3,
        first: float = 1.0,
        limit: float = 60.0,
        forget: float = 3600.0,
        capacity: int = 10_000,
    ) -> None:
        self._clock = clock
        self._free = free
        self._first = first
        self._limit = limit
        self._forget = forget
        self._capacity = capacity
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._records)

    def wait(self, key: str) -> float:
        """Seconds until an attempt on `key` would be let through."""
        record = self._records.get(key)
        return self._remaining(record) if record else 0.0

    def attempt(self, key: str) -> float:
        """Seconds still to wait (the attempt is refused), or 0.0 (it is let through, and counted)."""
        now = self._clock.monotonic()
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        if record.failures and now - record.last >= self._forget:
            record.failures = record.refused = 0
        wait = self._remaining(record)
        if wait > 0:
            record.refused += 1
            return wait
        record.failures += 1
        record.last = now
        while len(self._records) > self._capacity:
            self._records.popitem(last=False)
            self.evicted += 1
        return 0.0

    def refused(self, key: str) -> int:
        """How many attempts were refused since the key was first slowed."""
        record = self._records.get(key)
        return record.refused if record else 0

    def undo(self, key: str) -> None:
        """The attempt was none: it succeeded, or was never made."""
        record = self._records.get(key)
        if record is not None:
            record.failures = max(0, record.failures - 1)
            if not record.failures:
                del self._records[key]

    def succeeded(self, key: str) -> None:
        """Forget every wrong attempt on `key`."""
        self._records.pop(key, None)

    def _remaining(self, record: _Record) -> float:
        if record.failures <= self._free:
            return 0.0
        doublings = min(record.failures - self._free - 1, 60)
        wait = min(self._limit, self._first * 2.0**doublings)
        return max(0.0, record.last + wait - self._clock.monotonic())
