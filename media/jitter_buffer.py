"""Puts packets back in order and decides when to stop waiting for a missing one."""

from __future__ import annotations

from typing import NamedTuple

from protocols.rtp.packet import RtpPacket


class Ordered(NamedTuple):
    """A packet in its turn; `after_loss`: those just before it are given up."""

    packet: RtpPacket
    arrival: float
    after_loss: bool


class JitterBuffer:
    """Bounded by `max_packets` and by `hold` seconds that a gap is waited for.

    Sequence numbers are extended ones. Times are monotonic seconds.
    """

    def __init__(self, max_packets: int, hold: float) -> None:
        self._max_packets = max_packets
        self._hold = hold
        self._waiting: dict[int, tuple[RtpPacket, float]] = {}
        self._blocked_since: float | None = None
        self.next_sequence: int | None = None
        """The extended sequence number whose turn it is."""
        self.late = 0
        self.duplicates = 0
        self.given_up = 0

    def insert(self, sequence: int, packet: RtpPacket, arrival: float) -> bool:
        """Whether the packet is new and in time."""
        if self.next_sequence is None:
            self.next_sequence = sequence
        if sequence < self.next_sequence:
            self.late += 1
            return False
        if sequence in self._waiting:
            self.duplicates += 1
            return False
        self._waiting[sequence] = (packet, arrival)
        return True

    def take(self, now: float) -> list[Ordered]:
        """What is in order by now, and what comes after gaps that have been waited for long enough."""
        ready: list[Ordered] = []
        after_loss = False
        while self._waiting and self.next_sequence is not None:
            held = self._waiting.pop(self.next_sequence, None)
            if held is not None:
                ready.append(Ordered(held[0], held[1], after_loss))
                self.next_sequence += 1
                after_loss, self._blocked_since = False, None
                continue
            if self._blocked_since is None:
                self._blocked_since = min(arrival for _, arrival in self._waiting.values())
            if now < self._blocked_since + self._hold and len(self._waiting) <= self._max_packets:
                break
            first = min(self._waiting)
            self.given_up += first - self.next_sequence
            self.next_sequence, after_loss = first, True
        return ready

    def clear(self) -> list[Ordered]:
        """Everything that waits, in order, gaps given up; then empty and without a position."""
        ready = self.take(float("inf"))
        self.next_sequence = self._blocked_since = None
        return ready

    @property
    def deadline(self) -> float | None:
        """When `take` will give up a gap, or None when nothing waits."""
        return None if self._blocked_since is None else self._blocked_since + self._hold
