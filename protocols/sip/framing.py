"""Framing of SIP on a byte stream (RFC 3261 18.3) with the keep-alive of RFC 5626 4.4.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from protocols.sip.grammar import SipSyntaxError, number

_LINE_BREAKS = b"\r\n"


class KeepAlive(Enum):
    """Bytes between messages: a double CRLF asks for a pong, a single one is it."""

    PING = auto()
    PONG = auto()


@dataclass(frozen=True, slots=True)
class Framed:
    """One whole message as it stood in the stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FramingLost:
    """The stream cannot be followed any further; ``head`` is what could be read, for an answer."""

    status: int
    reason: str
    head: bytes


FramingEvent = Framed | KeepAlive | FramingLost


class StreamFramer:
    """Cuts a stream into messages, however it was split.

    Memory is bounded by ``max_head`` + ``max_body`` + one read. After FramingLost it swallows
    everything: the connection is to be closed.
    """

    def __init__(self, max_head: int = 64 * 1024, max_body: int = 128 * 1024) -> None:
        self._max_head = max_head
        self._max_body = max_body
        self._buffer = bytearray()
        self._searched = 0
        self._needed: int | None = None
        self._lost = False
        self._breaks = 0

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[FramingEvent]:
        """Take bytes; yield what they complete. The iterator must be exhausted."""
        if self._lost:
            return
        self._buffer += data
        while self._buffer and not self._lost:
            if self._needed is None:
                event = self._skip_breaks()
                if event is not None:
                    yield event
                    continue
                if not self._buffer:
                    return
                lost = self._find_head()
                if lost is not None:
                    yield self._lose(lost)
                    return
            if self._needed is None or len(self._buffer) < self._needed:
                return
            message = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            self._needed, self._searched = None, 0
            yield Framed(message)

    def _skip_breaks(self) -> KeepAlive | None:
        """Eat CR and LF before a start line; two line breaks are a ping, one alone a pong."""
        size = len(self._buffer)
        skipped = 0
        while skipped < size and self._buffer[skipped] in _LINE_BREAKS:
            if self._buffer[skipped] == 0x0A:
                self._breaks += 1
            skipped += 1
            if self._breaks == 2:
                self._breaks = 0
                del self._buffer[:skipped]
                return KeepAlive.PING
        if skipped:
            del self._buffer[:skipped]
        if self._buffer and self._breaks:
            self._breaks = 0
            return KeepAlive.PONG
        return None

    def _find_head(self) -> FramingLost | None:
        start = max(0, self._searched - 3)
        ends = [
            (at, len(mark))
            for mark in (b"\r\n\r\n", b"\n\n", b"\n\r\n")
            if (at := self._buffer.find(mark, start)) >= 0
        ]
        self._searched = len(self._buffer)
        if not ends:
            if len(self._buffer) > self._max_head:
                return FramingLost(
                    513, "Message Too Large: the headers do not end", bytes(self._buffer[:4096])
                )
            return None
        # "\r\n\r\n" begins one byte before the "\n\r\n" inside it, so the smallest position wins.
        at, length = min(ends)
        head = bytes(self._buffer[:at])
        try:
            body_length = self._body_length(head)
        except SipSyntaxError as error:
            return FramingLost(400, f"Bad Request: {error}", head)
        if at > self._max_head or body_length > self._max_body:
            return FramingLost(513, f"Message Too Large: {body_length} bytes of body", head)
        self._needed = at + length + body_length
        return None

    def _body_length(self, head: bytes) -> int:
        values: set[int] = set()
        typed = False
        # Folded lines are joined first: a Content-Length may be folded.
        for line in head.replace(b"\r\n", b"\n").replace(b"\n ", b" ").replace(b"\n\t", b" ").split(b"\n"):
            name, _, value = line.partition(b":")
            name = name.strip().lower()
            if name in (b"content-length", b"l"):
                values.add(number(value.decode("utf-8", "replace"), "Content-Length"))
            elif name in (b"content-type", b"c"):
                typed = True
        if len(values) > 1:
            raise SipSyntaxError("two different Content-Length")
        if not values and typed:
            # RFC 3261 20.14 wants it on streams; without a body announced we take it for none.
            raise SipSyntaxError("Content-Length is missing on a stream")
        return values.pop() if values else 0

    def _lose(self, lost: FramingLost) -> FramingLost:
        self._lost = True
        self._buffer.clear()
        return lost
