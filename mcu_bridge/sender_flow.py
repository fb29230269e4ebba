"""Who sends a picture that nobody is shown is brought to a trickle, and ramped up before it is shown. Pure.

    demand = Demand(now)
    demand.look(needed=..., now=now) -> bool     a few times a second: whether it is to be held back

Up it goes at once; down only after nobody needed it for a while, longer where sites alternate.
"""

from __future__ import annotations

TRICKLE = 64_000
"""bit/s: keeps encoder and line alive. Chromium is there, and back at its rate, within two seconds."""
PATIENCE = 10.0
"""Seconds without need until a picture is held back."""
MOST_PATIENCE = 80.0
ALTERNATING = 60.0
"""Who is needed again within so many seconds of being held back is held back later from then on."""


class Demand:
    """Whether a site's picture is needed. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._held = False
        self._needed_at = now
        self._held_at = float("-inf")
        self._patience = PATIENCE

    def look(self, *, needed: bool, now: float) -> bool:
        """Whether the picture is to be held back."""
        if needed:
            self._needed_at = now
            if self._held:
                self._held = False
                soon = now - self._held_at < ALTERNATING
                self._patience = min(2 * self._patience, MOST_PATIENCE) if soon else PATIENCE
        elif not self._held and now - self._needed_at >= self._patience:
            self._held, self._held_at = True, now
        return self._held
