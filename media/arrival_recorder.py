"""Transport-wide arrival times for a sender's congestion control (draft-holmer-rmcat-transport-wide-cc)."""

from __future__ import annotations

from protocols.rtp.transport_feedback import REFERENCE_UNIT, TICK, TransportFeedback

INTERVAL = 0.1
"""Seconds between feedback messages."""
MAX_PACKETS = 1000
"""A message covers at most this many sequence numbers; older arrivals than that are not reported."""
_TICKS_PER_REFERENCE = round(REFERENCE_UNIT / TICK)


class ArrivalRecorder:
    """Shared by all streams of one transport, for the sequence numbers run over all of them.

    Times are monotonic seconds. `media_ssrc` of a message is that of the last packet recorded.
    """

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc
        self._media_ssrc = 0
        self._arrivals: dict[int, float] = {}
        self._highest: int | None = None
        self._next: int | None = None
        self._count = 0
        self._due: float | None = None

    def record(self, sequence: int, media_ssrc: int, arrival: float) -> None:
        """A packet with this 16-bit transport sequence number came."""
        if self._highest is None:
            self._highest = extended = sequence
        else:
            extended = self._highest + (sequence - self._highest + 0x8000 & 0xFFFF) - 0x8000
        if self._next is not None and extended < self._next:
            return  # reported as lost already
        self._highest = max(self._highest, extended)
        self._media_ssrc = media_ssrc
        self._arrivals.setdefault(extended, arrival)
        if len(self._arrivals) > MAX_PACKETS:
            del self._arrivals[min(self._arrivals)]
        if self._due is None:
            self._due = arrival + INTERVAL

    @property
    def deadline(self) -> float | None:
        return self._due

    def poll(self, now: float) -> list[bytes]:
        """The RTCP messages due (reduced-size, RFC 5506), usually none or one."""
        if self._due is None or now < self._due:
            return []
        self._due = None
        messages: list[bytes] = []
        while self._arrivals:
            messages.append(bytes(self._message()))
        return messages

    def _message(self) -> TransportFeedback:
        first = min(self._arrivals)
        # A gap before the first arrival is reported too, so that the sender sees what was lost there.
        base = self._next if self._next is not None and first - self._next < MAX_PACKETS // 2 else first
        end = min(max(self._arrivals) + 1, base + MAX_PACKETS)
        reference = int(self._arrivals[first] / REFERENCE_UNIT)
        clock = reference * _TICKS_PER_REFERENCE
        deltas: list[int | None] = []
        for sequence in range(base, end):
            arrival = self._arrivals.get(sequence)
            if arrival is None:
                deltas.append(None)
                continue
            delta = round(arrival / TICK) - clock
            if not -0x8000 <= delta <= 0x7FFF:
                end = sequence  # too far apart for one message: the next has its own reference
                break
            deltas.append(delta)
            clock += delta
            del self._arrivals[sequence]
        self._next = end
        message = TransportFeedback(
            self._ssrc,
            self._media_ssrc,
            base & 0xFFFF,
            (reference + 0x80_0000 & 0xFF_FFFF) - 0x80_0000,
            self._count & 0xFF,
            tuple(deltas),
        )
        self._count += 1
        return message
