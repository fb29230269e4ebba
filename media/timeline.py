"""One stream's media time: RTP timestamps unwrapped to 64 bits, and the sender's clock (RFC 3550 6.4.1)."""

from __future__ import annotations

_TOLERANCE = 10.0
"""Seconds by which a timestamp may stray from the arrival before it counts as a jump."""


class Timeline:
    """Unwraps timestamps; over a restart or jump media time goes on with the time that has passed.

    Arrivals are monotonic seconds. `jumps` counts the discontinuities bridged.
    """

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._raw: int | None = None
        self._value = 0
        self._arrival = 0.0
        self._rejoin = False
        self._report: tuple[int, int] | None = None
        """NTP time (64 bits) and the unwrapped timestamp it belongs to."""
        self._early_report: tuple[int, int] | None = None
        self.jumps = 0

    def rejoin(self) -> None:
        """The next timestamp belongs to another source: it has nothing to do with those before."""
        self._rejoin = True
        self._report = self._early_report = None

    def unwrap(self, timestamp: int, arrival: float) -> int:
        """The 64-bit timestamp of a packet, at or near those before it."""
        if self._raw is None:
            self._value = timestamp
        elif timestamp != self._raw or self._rejoin:
            step = _signed(timestamp - self._raw)
            elapsed = round((arrival - self._arrival) * self._clock_rate)
            if self._rejoin or abs(_signed(step - elapsed)) > _TOLERANCE * self._clock_rate:
                step = max(elapsed, 1)
                self.jumps += 1
                self._report = None
            elif step < 0 and elapsed > 2**31:
                step += 2**32  # silent for longer than the timestamp takes to wrap
            self._value += step
        self._raw, self._arrival, self._rejoin = timestamp, arrival, False
        if self._early_report is not None:
            self.report(*self._early_report)
        return self._value

    def report(self, ntp: int, timestamp: int) -> None:
        """A sender report says that `timestamp` was at `ntp` (64 bits)."""
        if self._raw is None or self._rejoin:
            self._early_report = (ntp, timestamp)
            return
        self._early_report = None
        self._report = (ntp, self._value + _signed(timestamp - self._raw))

    def ntp_at(self, timestamp: int) -> float | None:
        """The sender's wall clock (seconds since 1900) at an unwrapped timestamp, once a report came."""
        if self._report is None:
            return None
        ntp, at = self._report
        return ntp / 2**32 + (timestamp - at) / self._clock_rate


def _signed(difference: int) -> int:
    return (difference + 2**31) % 2**32 - 2**31
