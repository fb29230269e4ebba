"""DTMF over RTP (RFC 4733): telephone events, told apart by their timestamp."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_EVENT = struct.Struct("!BBH")
DTMF = "0123456789*#ABCD"
"""The digits of events 0 to 15 (RFC 4733 3.2)."""
MAX_DURATION = 0xFFFF


class MalformedEvent(ValueError):
    """The peer's bytes are not a telephone event."""


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """RFC 4733 2.3. `volume` is in -dBm0 (0..63), `duration` in timestamp units since the event began."""

    event: int
    end: bool
    volume: int
    duration: int

    @classmethod
    def parse(cls, payload: bytes) -> TelephoneEvent:
        """Further blocks of one payload (2.5.1.3) are passed over. Raises MalformedEvent."""
        if len(payload) < _EVENT.size:
            raise MalformedEvent(f"a telephone event of {len(payload)} bytes")
        event, flags, duration = _EVENT.unpack_from(payload)
        return cls(event, bool(flags & 0x80), flags & 0x3F, duration)

    def __bytes__(self) -> bytes:
        return _EVENT.pack(self.event, (0x80 if self.end else 0) | self.volume, self.duration)

    @property
    def digit(self) -> str | None:
        """The key that was pressed, or None for an event that is not DTMF."""
        return DTMF[self.event] if self.event < len(DTMF) else None


class TelephoneEventReceiver:
    """Gives each event once, at the first packet of it that comes.

    All packets of an event carry the timestamp of its beginning (2.2), so repeated ends and lost beginnings
    do not matter. A long event goes on in a new segment without marker (2.5.1.3); senders that wrongly
    advance the timestamp with each packet look the same and are taken the same.
    """

    def __init__(self, clock_rate: int = 8000) -> None:
        self.malformed = 0
        self._pause = clock_rate // 5
        self._last: TelephoneEvent | None = None
        self._timestamp = 0

    def push(self, payload: bytes, timestamp: int, marker: bool) -> TelephoneEvent | None:
        """`timestamp` unwrapped. The event where it is a new one, else None."""
        try:
            event = TelephoneEvent.parse(payload)
        except MalformedEvent:
            self.malformed += 1
            return None
        last, began = self._last, self._timestamp
        if last is not None and timestamp < began:
            return None  # late by reordering
        if last is not None and timestamp == began and last.event == event.event:
            self._last = last if last.end else event
            return None
        self._last, self._timestamp = event, timestamp
        if last is None or last.event != event.event or last.end or marker:
            return event
        goes_on = timestamp - began <= max(last.duration, event.duration) + self._pause
        return None if goes_on else event
