"""How busy a worker keeps the processors, and what follows: lower classes first, then no newcomers."""

from __future__ import annotations

from collections import deque

WINDOW = 5.0
RAISE_AT = 0.9
LOWER_AT = 0.6
HOLD = 10.0
HIGHEST_CEILING = 3


class WorkerLoad:
    """Fed with the process's CPU seconds; `share` is of all `cores`, over the last five seconds.

    `ceiling` is how many rungs of the picture ladder are given up: one more each time the load stays
    near the limit, one fewer when it has fallen well below, never twice within `HOLD` seconds.
    """

    def __init__(self, cores: int, limit: float) -> None:
        self.ceiling = 0
        self._cores = cores
        self._limit = limit
        self._samples: deque[tuple[float, float]] = deque()
        self._changed_at = float("-inf")

    def sample(self, cpu_seconds: float, now: float) -> None:
        self._samples.append((now, cpu_seconds))
        while now - self._samples[0][0] > WINDOW and len(self._samples) > 2:
            self._samples.popleft()
        if now - self._changed_at < HOLD or now - self._samples[0][0] < WINDOW / 2:
            return
        share = self.share
        if share > RAISE_AT * self._limit and self.ceiling < HIGHEST_CEILING:
            self.ceiling += 1
            self._changed_at = now
        elif share < LOWER_AT * self._limit and self.ceiling:
            self.ceiling -= 1
            self._changed_at = now

    @property
    def share(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (began, before), (now, after) = self._samples[0], self._samples[-1]
        return (after - before) / (now - began) / self._cores if now > began else 0.0

    @property
    def full(self) -> bool:
        """Nobody new can be served without harm to those who are there, though classes are lower already."""
        return self.ceiling > 0 and self.share > self._limit

    @property
    def why_lower(self) -> str:
        """Why classes are lower than receivers could take; nothing while they are not."""
        if not self.ceiling:
            return ""
        return f"{self.ceiling} of {HIGHEST_CEILING} rungs lower, {self}"

    def __str__(self) -> str:
        return f"this worker keeps {self.share:.0%} of the processors busy, its limit is {self._limit:.0%}"
