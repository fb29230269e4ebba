"""What arrives of one RTP source: sequence validity, loss and jitter (RFC 3550 A.1, A.3, A.8), rate."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

MAX_DROPOUT = 3000
"""RFC 3550 A.1: a larger step forward is a restart."""
MAX_MISORDER = 512
"""A packet this far behind is late; RFC 3550 A.1 has 100, which retransmissions at high rates exceed."""
_TENTHS = 10


class Step(Enum):
    """What a sequence number means (RFC 3550 A.1)."""

    VALID = auto()
    JUMP = auto()
    """Far from all before: to be held until the next one confirms it."""
    RESTART = auto()
    """The second in a row after a jump: the source has restarted, one packet before this one."""


class ReceptionStatistics:
    """One source, one sequence space. Sequence numbers are extended over the cycles of 16 bits."""

    def __init__(self, first_sequence: int, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self.jitter = 0.0
        """Interarrival jitter in timestamp units (RFC 3550 A.8)."""
        self._transit: float | None = None
        self._lost_before = 0
        self._start(first_sequence)

    def _start(self, first_sequence: int) -> None:
        self._base = self.highest = first_sequence
        self.received = 0
        self._expected_prior = self._received_prior = 0
        self._after_jump: int | None = None
        self._transit = None

    def restart(self, first_sequence: int) -> None:
        """Begins a new sequence space (RFC 3550 A.1, init_seq); the total loss is kept."""
        self._lost_before += max(self.lost, 0)
        self._start(first_sequence)

    def judge(self, sequence: int) -> Step:
        """Whether a packet with this 16-bit sequence number belongs to the run so far."""
        delta = (sequence - self.highest) & 0xFFFF
        if delta < MAX_DROPOUT or delta > 0x10000 - MAX_MISORDER:
            self._after_jump = None
            return Step.VALID
        if sequence == self._after_jump:
            return Step.RESTART
        self._after_jump = (sequence + 1) & 0xFFFF
        return Step.JUMP

    def extend(self, sequence: int) -> int:
        """The extended number nearest to the highest one received."""
        delta = (sequence - self.highest) & 0xFFFF
        return self.highest + (delta if delta < 0x8000 else delta - 0x10000)

    def count(self, extended: int) -> None:
        """Takes a packet judged valid into the counts."""
        self.received += 1
        if extended > self.highest:
            self.highest = extended

    def time(self, timestamp: int, arrival: float) -> None:
        """Takes a packet's 32-bit timestamp and arrival (s) into the jitter (A.8)."""
        transit = (arrival * self._clock_rate - timestamp) % 2**32
        if self._transit is not None:
            difference = (transit - self._transit + 2**31) % 2**32 - 2**31
            if abs(difference) < 10 * self._clock_rate:  # a jump of the timestamps is not jitter
                self.jitter += (abs(difference) - self.jitter) / 16
        self._transit = transit

    @property
    def expected(self) -> int:
        return self.highest - self._base + 1

    @property
    def lost(self) -> int:
        """Cumulative loss of this sequence space; negative where packets came twice (A.3)."""
        return self.expected - self.received

    @property
    def total_lost(self) -> int:
        """Loss over all restarts."""
        return self._lost_before + max(self.lost, 0)

    def fraction_lost(self) -> int:
        """Loss since the last call in 1/256 (A.3)."""
        expected, received = self.expected - self._expected_prior, self.received - self._received_prior
        self._expected_prior, self._received_prior = self.expected, self.received
        lost = expected - received
        return min(lost * 256 // expected, 255) if expected > 0 and lost > 0 else 0


class RateMeter:
    """Bits a second over the last second, in tenths."""

    __slots__ = ("_before", "_bytes", "_tenth")

    def __init__(self) -> None:
        self._bytes = 0
        self._tenth = 0
        self._before: deque[int] = deque([0] * (_TENTHS - 1), maxlen=_TENTHS - 1)

    def add(self, size: int, now: float) -> None:
        """`size` bytes at `now` (monotonic seconds)."""
        if int(now * 10) != self._tenth:
            self._advance(now)
        self._bytes += size

    def bitrate(self, now: float) -> int:
        self._advance(now)
        return 8 * (sum(self._before) + self._bytes)

    def _advance(self, now: float) -> None:
        tenth = int(now * 10)
        for _passed in range(min(tenth - self._tenth, _TENTHS)):
            self._before.append(self._bytes)
            self._bytes = 0
        self._tenth = max(tenth, self._tenth)
