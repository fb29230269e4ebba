"""What a caller of the node's general number keys in: meeting number, #, PIN, #.

    plan = DialPlan(needs_pin=True, now=now)
    plan.press("8", now) -> None          # until something is whole:
    plan.press("#", now) -> Chosen(number, pin)
    plan.failed(now) -> bool              # False: that was the last try

A caller whom we know needs no PIN: for him the number is whole by itself. One who dialled a meeting's own
telephone number (`given`) keys in the PIN alone. A star takes back what was keyed in since the last #.
Whether the number or the PIN was wrong is not told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

TRIES = 3
PATIENCE = 60.0
"""Seconds without a key after which the caller is let go."""
LONGEST = 16
"""Digits; of more the first are kept, so that the entry is wrong."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A meeting that the caller wants to be in; `pin` is None for one who needs none."""

    number: str
    pin: str | None


class DialPlan:
    """One caller's entries. `now` is monotonic seconds."""

    def __init__(self, *, needs_pin: bool, now: float, given: str | None = None) -> None:
        self._needs_pin = needs_pin
        self._given = given
        self._entry = ""
        self._number = given
        self._failures = 0
        self._heard = now

    @property
    def deadline(self) -> float:
        """When patience ends."""
        return self._heard + PATIENCE

    @property
    def awaits_pin(self) -> bool:
        """Whether the next entry is a PIN."""
        return self._number is not None

    def press(self, key: str, now: float) -> Chosen | None:
        """One key of 0 to 9, * and #; A to D mean nothing."""
        self._heard = now
        if key == "*":
            self._entry = ""
        elif key.isdigit():
            self._entry = (self._entry + key)[: LONGEST + 1]
        elif key == "#":
            return self._whole()
        return None

    def _whole(self) -> Chosen | None:
        entry, self._entry = self._entry, ""
        if not entry:
            return None
        if not self._needs_pin:
            return Chosen(entry, None)
        if self._number is None:
            self._number = entry
            return None
        number, self._number = self._number, self._given
        return Chosen(number, entry)

    def failed(self, now: float) -> bool:
        """The last choice led nowhere; whether the caller may try again, from the meeting number on."""
        self._heard = now
        self._entry, self._number = "", self._given
        self._failures += 1
        return self._failures < TRIES
