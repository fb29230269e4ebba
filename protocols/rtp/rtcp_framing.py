"""The header every RTCP packet shares (RFC 3550 6.4.1): version, padding, count, type, length."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("!BBH")
U32 = struct.Struct("!I")


class MalformedRtcp(ValueError):
    """The peer's bytes are not RTCP."""


@dataclass(frozen=True, slots=True)
class OpaquePacket:
    """An RTCP packet of a type we do not know, or (`error` says why) one whose body does not parse.

    `count` is the five-bit field of the header: a report count, subtype or feedback message type.
    """

    packet_type: int
    count: int
    body: bytes
    error: str | None = None

    def __bytes__(self) -> bytes:
        return framed(self.packet_type, self.count, self.body)


def framed(packet_type: int, count: int, body: bytes) -> bytes:
    """Puts the header before `body`, and padding (RFC 3550 6.4.1) after a body that is not whole words."""
    padding = -len(body) % 4
    if not 0 <= count <= 31:
        raise ValueError(f"an RTCP packet counts at most 31 blocks, not {count}")
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    first = 0x80 | (0x20 if padding else 0) | count
    return _HEADER.pack(first, packet_type, (len(body) + padding) // 4) + body + tail


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each (packet type, count, body without padding) of a compound. Raises MalformedRtcp on bad lengths."""
    if not data:
        raise MalformedRtcp("an empty RTCP datagram")
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise MalformedRtcp(f"{len(data) - at} bytes left over after the last RTCP packet")
        first, packet_type, words = _HEADER.unpack_from(data, at)
        if first >> 6 != 2:
            raise MalformedRtcp(f"RTCP version is {first >> 6}, not 2")
        start, end = at + _HEADER.size, at + _HEADER.size + 4 * words
        if end > len(data):
            raise MalformedRtcp(f"RTCP packet of type {packet_type} claims {words} words and is cut off")
        body = data[start:end]
        if first & 0x20:
            if not body or not 0 < body[-1] <= len(body):
                raise MalformedRtcp(f"RTCP packet of type {packet_type} has impossible padding")
            body = body[: -body[-1]]
        yield packet_type, first & 0x1F, body
        at = end


def need(body: bytes, size: int, what: str) -> None:
    """Raises MalformedRtcp unless `body` holds `size` bytes."""
    if len(body) < size:
        raise MalformedRtcp(f"{what} needs {size} bytes and has {len(body)}")
