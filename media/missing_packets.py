"""Which packets to ask for again (RFC 4585 6.2.1), when, and how often."""

from __future__ import annotations

from dataclasses import dataclass

REORDER_GRACE = 0.005
"""Seconds a gap may close by itself before the first request."""
MAX_REQUESTS = 10
MAX_MISSING = 400
"""With more than this missing, repair is given up: a key frame is cheaper."""
_INITIAL_ROUND_TRIP = 0.1
_SHORTEST_RETRY = 0.02


@dataclass(slots=True)
class _Missing:
    due: float
    requests: int = 0


class MissingPackets:
    """Extended sequence numbers not yet received. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._missing: dict[int, _Missing] = {}
        self.round_trip: float | None = None
        self.repaired = 0

    def gap(self, first: int, end: int, now: float) -> None:
        """`first` up to but not including `end` did not come."""
        if end - first + len(self._missing) > MAX_MISSING:
            self._missing.clear()
            return
        for sequence in range(first, end):
            self._missing[sequence] = _Missing(now + REORDER_GRACE)

    def arrived(self, sequence: int) -> bool:
        """Whether the packet had been asked for."""
        missing = self._missing.pop(sequence, None)
        repaired = missing is not None and missing.requests > 0
        self.repaired += repaired
        return repaired

    def forget_before(self, sequence: int) -> None:
        """Those whose turn is over are not worth asking for."""
        if self._missing:
            for old in [number for number in self._missing if number < sequence]:
                del self._missing[old]

    def clear(self) -> None:
        self._missing.clear()

    def due(self, now: float) -> list[int]:
        """Whom to ask for now, in order; counts as asked."""
        retry = max(self.round_trip if self.round_trip is not None else _INITIAL_ROUND_TRIP, _SHORTEST_RETRY)
        asked: list[int] = []
        for sequence, missing in list(self._missing.items()):
            if missing.due > now:
                continue
            if missing.requests >= MAX_REQUESTS:
                del self._missing[sequence]
                continue
            missing.requests += 1
            missing.due = now + retry
            asked.append(sequence)
        return sorted(asked)

    @property
    def deadline(self) -> float | None:
        return min((missing.due for missing in self._missing.values()), default=None)
