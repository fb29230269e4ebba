"""Messages and interleaved packets on one byte stream (RFC 2326 4, 10.12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from struct import Struct

from protocols.sip.grammar import SipSyntaxError, excerpt, number
from protocols.sip.message import parse_headers

MAX_HEAD = 32 * 1024
MAX_BODY = 256 * 1024

_DOLLAR = 0x24
_INTERLEAVED = Struct("!BBH")
_LINE_BREAKS = b"\r\n"
_ENDS = (b"\r\n\r\n", b"\n\n", b"\n\r\n")


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A packet on a channel: RTP on the even one, RTCP on the odd one by custom (RFC 2326 10.12)."""

    channel: int
    data: bytes

    def __bytes__(self) -> bytes:
        return interleaved_header(self.channel, len(self.data)) + self.data


@dataclass(frozen=True, slots=True)
class Framed:
    """One whole message as it stood in the stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FramingLost:
    """The stream cannot be followed any further; the connection is to be closed."""

    reason: str
    foreign: bool = False
    """What came is of another protocol, or of none."""


FramingEvent = Interleaved | Framed | FramingLost


def interleaved_header(channel: int, length: int) -> bytes:
    """The four bytes before a packet. Raises OverflowError beyond 255 or 65535."""
    return b"$" + channel.to_bytes(1, "big") + length.to_bytes(2, "big")


def interleaved_headers(channel: int, lengths: Iterable[int]) -> list[bytes]:
    """Those before several packets. Raises struct.error beyond 255 or 65535."""
    return list(map(_INTERLEAVED.pack, repeat(_DOLLAR), repeat(channel), lengths))


class RtspFramer:
    """Cuts a stream, however it was split.

    Memory is bounded by the larger of `max_head` + `max_body` and a packet, and one read. After FramingLost
    it swallows everything.
    """

    def __init__(self, max_head: int = MAX_HEAD, max_body: int = MAX_BODY) -> None:
        self._max_head = max_head
        self._max_body = max_body
        self._buffer = bytearray()
        self._at = 0
        self._lost = False

    @property
    def pending(self) -> int:
        """Bytes of what is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[FramingEvent]:
        """Take bytes; yield what they complete. The iterator must be exhausted."""
        if self._lost:
            return
        self._buffer += data
        self._at = 0
        while self._at < len(self._buffer):
            event = self._next()
            if event is None:
                break
            yield event
            if isinstance(event, FramingLost):
                self._lost = True
                self._buffer.clear()
                return
        del self._buffer[: self._at]

    def _next(self) -> FramingEvent | None:
        buffer = self._buffer
        while self._at < len(buffer) and buffer[self._at] in _LINE_BREAKS:
            self._at += 1
        at = self._at
        if at == len(buffer):
            return None
        if buffer[at] == _DOLLAR:
            if len(buffer) - at < 4:
                return None
            end = at + 4 + (buffer[at + 2] << 8 | buffer[at + 3])
            if len(buffer) < end:
                return None
            self._at = end
            return Interleaved(buffer[at + 1], bytes(buffer[at + 4 : end]))
        if not (0x41 <= buffer[at] <= 0x5A or 0x61 <= buffer[at] <= 0x7A):
            start = bytes(buffer[at : at + 40]).decode("latin-1")
            return FramingLost(f"neither a message nor a packet: {excerpt(start)}", foreign=True)
        return self._message(at)

    def _message(self, at: int) -> FramingEvent | None:
        buffer = self._buffer
        found = [(end, len(mark)) for mark in _ENDS if (end := buffer.find(mark, at)) >= 0]
        if not found:
            if len(buffer) - at > self._max_head:
                return FramingLost(f"the headers do not end within {self._max_head} bytes", foreign=True)
            return None
        # "\r\n\r\n" begins one byte before the "\n\r\n" inside it, so the smallest position wins.
        end, mark = min(found)
        try:
            length = self._body_length(bytes(buffer[at:end]))
        except SipSyntaxError as error:
            return FramingLost(str(error))
        if end - at > self._max_head:
            return FramingLost(f"headers of {end - at} bytes")
        stop = end + mark + length
        if len(buffer) < stop:
            return None
        self._at = stop
        return Framed(bytes(buffer[at:stop]))

    def _body_length(self, head: bytes) -> int:
        values = set(parse_headers(head.partition(b"\n")[2]).all("Content-Length"))
        if len(values) > 1:
            raise SipSyntaxError("Content-Length appears with two values")
        return number(values.pop(), "Content-Length", self._max_body) if values else 0
