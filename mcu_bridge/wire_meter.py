"""What one participant's wire carried, as budgets count it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from media.transport import MediaTransport

SAMPLES_A_SECOND = 10


class WireMeter:
    """IP bytes over sliding windows of one second, sampled ten times a second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque([(0, 0)], maxlen=SAMPLES_A_SECOND + 1)
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

    def sample(self, transports: Sequence[MediaTransport]) -> None:
        self._samples.append(self.totals(transports))
        sent, received = self.last_second
        self.peak_sent = max(self.peak_sent, sent)
        self.peak_received = max(self.peak_received, received)

    @property
    def last_second(self) -> tuple[int, int]:
        first, last = self._samples[0], self._samples[-1]
        return last[0] - first[0], last[1] - first[1]
