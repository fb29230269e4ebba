"""What a sender keeps to answer requests for packets (RFC 4585 6.2.1), a record a frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentFrame:
    """The packets of one frame as they were sent; `payloads` are shared with all other receivers."""

    first_sequence: int
    payload_type: int
    timestamp: int
    marker: bool
    payloads: Sequence[bytes]
    sent: float


class SentPackets:
    """Bounded by packets and by age in seconds."""

    def __init__(self, max_packets: int, max_age: float) -> None:
        self._max_packets = max_packets
        self._max_age = max_age
        self._frames: deque[SentFrame] = deque()
        self._count = 0

    def add(self, frame: SentFrame) -> None:
        frames = self._frames
        frames.append(frame)
        self._count += len(frame.payloads)
        oldest = frame.sent - self._max_age
        while frames and (self._count > self._max_packets or frames[0].sent < oldest):
            self._count -= len(frames.popleft().payloads)

    def find(self, sequence: int) -> tuple[SentFrame, int] | None:
        """The frame with that 16-bit sequence number and the place in it, or None when it is gone."""
        for frame in reversed(self._frames):
            index = (sequence - frame.first_sequence) & 0xFFFF
            if index < len(frame.payloads):
                return frame, index
        return None

    def __len__(self) -> int:
        return self._count
