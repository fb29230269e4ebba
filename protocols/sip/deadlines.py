"""Many deadlines, one clock: a heap with cheap change and removal."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """Each key has at most one deadline, in seconds of the caller's monotonic clock."""

    def __init__(self) -> None:
        self._when: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._when)

    def set(self, key: Key, when: float | None) -> None:
        """Set, move or (None) remove the deadline of ``key``."""
        if when is None:
            self._when.pop(key, None)
            return
        if self._when.get(key) == when:
            return
        self._when[key] = when
        self._serial += 1
        heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 2 * len(self._when) + 64:
            self._compact()

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap:
            when, _, key = self._heap[0]
            if self._when.get(key) == when:
                return when
            heappop(self._heap)
        return None

    def take_due(self, now: float) -> list[Key]:
        """The keys whose deadline has come, earliest first, removed."""
        due: list[Key] = []
        while (when := self.next()) is not None and when <= now:
            key = heappop(self._heap)[2]
            del self._when[key]
            due.append(key)
        return due

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._when.get(entry[2]) == entry[0]]
        heapify(self._heap)
