"""What one participant's wire carried, as budgets count it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from media.transport import MediaTransport

WINDOW = 1.005
"""Seconds; samples a tenth of a second apart make windows of one second, never of more."""
_MOST_SAMPLES = 64


class WireMeter:
    """IP bytes over sliding windows of one second, sampled about ten times a second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=_MOST_SAMPLES)
        self.peak_sent = 0
        self.peak_received = 0
        self._closed_sent = 0
        self._closed_received = 0

    def retire(self, transport: MediaTransport) -> None:
        """A transport is replaced; what it carried still counts."""
        self._closed_sent += transport.counters.bytes_sent
        self._closed_received += transport.counters.bytes_received

    def totals(self, transports: Sequence[MediaTransport]) -> tuple[int, int]:
        sent = self._closed_sent + sum(t.counters.bytes_sent for t in transports)
        received = self._closed_received + sum(t.counters.bytes_received for t in transports)
        return sent, received

    def sample(self, transports: Sequence[MediaTransport], now: float) -> None:
        """A late sample ends a window of its own: what a stall held back is not counted as one second's."""
        self._samples.append((now, *self.totals(transports)))
        while now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        sent, received = self.last_second
        self.peak_sent = max(self.peak_sent, sent)
        self.peak_received = max(self.peak_received, received)

    @property
    def last_second(self) -> tuple[int, int]:
        if not self._samples:
            return 0, 0
        first, last = self._samples[0], self._samples[-1]
        return last[1] - first[1], last[2] - first[2]
