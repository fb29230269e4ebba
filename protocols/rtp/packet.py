"""RTP data packets (RFC 3550 5.1) with header extensions (RFC 8285)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

_FIXED = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")
HEADER_SIZE = _FIXED.size

ONE_BYTE_PROFILE = 0xBEDE
"""RFC 8285 4.2."""
TWO_BYTE_PROFILE = 0x1000
"""RFC 8285 4.3; the low four bits are the application's."""

_RTX_OSN = struct.Struct("!H")


class MalformedRtp(ValueError):
    """The peer's bytes are not an RTP packet."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One header extension element: `id` 1..255 as negotiated by a=extmap, and its bytes (0..255)."""

    id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet (RFC 3550 5.1).

    `timestamp` is in units of the payload's clock, 32 bits; `sequence_number` 16 bits. `padding` counts the
    padding bytes including the length byte itself. A header extension of another profile than those of
    RFC 8285 is kept in `foreign_extension` as (profile, bytes).
    """

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes = b""
    marker: bool = False
    csrcs: tuple[int, ...] = ()
    extensions: tuple[Extension, ...] = ()
    foreign_extension: tuple[int, bytes] | None = None
    padding: int = 0

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        """Reads one datagram. Raises MalformedRtp when it is not RTP version 2 or lengths contradict."""
        if len(data) < HEADER_SIZE:
            raise MalformedRtp(f"RTP packet of {len(data)} bytes is shorter than its fixed header")
        first, second, sequence_number, timestamp, ssrc = _FIXED.unpack_from(data)
        if first >> 6 != 2:
            raise MalformedRtp(f"RTP version is {first >> 6}, not 2")
        start = HEADER_SIZE
        csrcs: tuple[int, ...] = ()
        extensions: tuple[Extension, ...] = ()
        foreign: tuple[int, bytes] | None = None
        if first & 0x0F:
            csrcs, start = _parse_csrcs(data, first & 0x0F)
        if first & 0x10:
            profile, block, start = _split_extension(data, start)
            if profile == ONE_BYTE_PROFILE:
                extensions = _parse_one_byte(block)
            elif profile & 0xFFF0 == TWO_BYTE_PROFILE:
                extensions = _parse_two_byte(block)
            else:
                foreign = (profile, block)
        end, padding = len(data), 0
        if first & 0x20:
            padding = data[-1]
            end -= padding
            if padding == 0 or end < start:
                raise MalformedRtp(f"RTP padding of {padding} bytes in {len(data) - start} bytes of payload")
        return cls(
            second & 0x7F,
            sequence_number,
            timestamp,
            ssrc,
            data[start:end],
            second >= 0x80,
            csrcs,
            extensions,
            foreign,
            padding,
        )

    def extension(self, id_: int) -> bytes | None:
        """The bytes of the first extension element with that id, or None."""
        for element in self.extensions:
            if element.id == id_:
                return element.data
        return None

    def __bytes__(self) -> bytes:
        """Raises ValueError when a field does not fit its place (our own mistake, never the peer's)."""
        if len(self.csrcs) > 15:
            raise ValueError(f"an RTP packet carries at most 15 CSRCs, not {len(self.csrcs)}")
        if not 0 <= self.padding <= 255:
            raise ValueError(f"RTP padding is 0..255 bytes, not {self.padding}")
        if self.extensions and self.foreign_extension is not None:
            raise ValueError("an RTP packet carries one header extension, of RFC 8285 or of another profile")
        block = b""
        if self.extensions:
            block = extension_block(self.extensions)
        elif self.foreign_extension is not None:
            profile, body = self.foreign_extension
            if len(body) % 4:
                raise ValueError("an RTP header extension is a whole number of 32-bit words")
            block = _EXTENSION.pack(profile, len(body) // 4) + body
        first = 0x80 | len(self.csrcs) | (0x10 if block else 0) | (0x20 if self.padding else 0)
        fixed = _FIXED.pack(
            first,
            self.payload_type | (0x80 if self.marker else 0),
            self.sequence_number,
            self.timestamp,
            self.ssrc,
        )
        csrcs = b"".join(csrc.to_bytes(4, "big") for csrc in self.csrcs)
        tail = bytes(self.padding - 1) + bytes([self.padding]) if self.padding else b""
        return b"".join((fixed, csrcs, block, self.payload, tail))


def header(
    payload_type: int, marker: bool, sequence_number: int, timestamp: int, ssrc: int, extensions: bytes = b""
) -> bytes:
    """The header alone, for senders that share payload bytes; `extensions` comes from `extension_block`."""
    return (
        _FIXED.pack(
            0x90 if extensions else 0x80,
            payload_type | 0x80 if marker else payload_type,
            sequence_number,
            timestamp,
            ssrc,
        )
        + extensions
    )


def headers(
    payload_type: int,
    marker: bool,
    first_sequence: int,
    count: int,
    timestamp: int,
    ssrc: int,
    extensions: bytes = b"",
) -> list[bytes]:
    """`count` headers of one frame, in sequence from `first_sequence` on; the marker on the last."""
    pack, first = _FIXED.pack, 0x90 if extensions else 0x80
    end = first_sequence + count
    # A hundred receivers' headers are most of what a frame costs us: no bytecode per packet.
    sequences: Iterable[int] = range(first_sequence, end)
    if end > 0x10000:
        sequences = map(0xFFFF.__and__, sequences)
    run = list(map(pack, repeat(first), repeat(payload_type), sequences, repeat(timestamp), repeat(ssrc)))
    if marker and run:
        run[-1] = pack(first, payload_type | 0x80, (end - 1) & 0xFFFF, timestamp, ssrc)
    return [one + extensions for one in run] if extensions else run


def extension_block(elements: Iterable[Extension]) -> bytes:
    """A whole header extension (RFC 8285): in the one-byte form where all elements fit it, else two-byte."""
    elements = tuple(elements)
    if not elements:
        return b""
    if all(1 <= element.id <= 14 and 1 <= len(element.data) <= 16 for element in elements):
        profile = ONE_BYTE_PROFILE
        body = b"".join(bytes([e.id << 4 | len(e.data) - 1]) + e.data for e in elements)
    elif all(1 <= element.id <= 255 and len(element.data) <= 255 for element in elements):
        profile = TWO_BYTE_PROFILE
        body = b"".join(bytes([e.id, len(e.data)]) + e.data for e in elements)
    else:
        raise ValueError("a header extension element has an id of 1..255 and at most 255 bytes")
    body += bytes(-len(body) % 4)
    return _EXTENSION.pack(profile, len(body) // 4) + body


def unwrap_retransmission(packet: RtpPacket, payload_type: int, ssrc: int) -> RtpPacket:
    """The original packet inside an RTX packet (RFC 4588 4).

    `payload_type` is the apt and `ssrc` the original stream's. Raises MalformedRtp when the original
    sequence number is missing.
    """
    if len(packet.payload) < _RTX_OSN.size:
        raise MalformedRtp("a retransmission without its original sequence number")
    (original,) = _RTX_OSN.unpack_from(packet.payload)
    return RtpPacket(
        payload_type=payload_type,
        sequence_number=original,
        timestamp=packet.timestamp,
        ssrc=ssrc,
        payload=packet.payload[_RTX_OSN.size :],
        marker=packet.marker,
        csrcs=packet.csrcs,
        extensions=packet.extensions,
        foreign_extension=packet.foreign_extension,
    )


def wrap_retransmission(payload: bytes, original_sequence_number: int) -> bytes:
    """The payload of an RTX packet (RFC 4588 4): the original sequence number, then the original payload."""
    return _RTX_OSN.pack(original_sequence_number) + payload


def _parse_csrcs(data: bytes, count: int) -> tuple[tuple[int, ...], int]:
    end = HEADER_SIZE + 4 * count
    if len(data) < end:
        raise MalformedRtp(f"RTP packet of {len(data)} bytes has no room for its {count} CSRCs")
    return struct.unpack_from(f"!{count}I", data, HEADER_SIZE), end


def _split_extension(data: bytes, start: int) -> tuple[int, bytes, int]:
    if len(data) < start + _EXTENSION.size:
        raise MalformedRtp("RTP header extension is cut off")
    profile, words = _EXTENSION.unpack_from(data, start)
    start += _EXTENSION.size
    end = start + 4 * words
    if len(data) < end:
        raise MalformedRtp(f"RTP header extension of {words} words runs past the packet")
    return profile, data[start:end], end


def _parse_one_byte(block: bytes) -> tuple[Extension, ...]:
    """RFC 8285 4.2: id 15 ends the reading, zero bytes are padding."""
    elements: list[Extension] = []
    at = 0
    while at < len(block):
        id_, length = block[at] >> 4, (block[at] & 0x0F) + 1
        if id_ == 15:
            break
        if id_ == 0:
            # A padding byte; an id of 0 with a length is to be ignored together with its bytes.
            at += 1 if block[at] == 0 else 1 + length
            continue
        if at + 1 + length > len(block):
            raise MalformedRtp(f"RTP header extension element {id_} runs past its block")
        elements.append(Extension(id_, block[at + 1 : at + 1 + length]))
        at += 1 + length
    return tuple(elements)


def _parse_two_byte(block: bytes) -> tuple[Extension, ...]:
    """RFC 8285 4.3: zero bytes between elements are padding."""
    elements: list[Extension] = []
    at = 0
    while at < len(block):
        if block[at] == 0:
            at += 1
            continue
        if at + 2 > len(block) or at + 2 + block[at + 1] > len(block):
            raise MalformedRtp(f"RTP header extension element {block[at]} runs past its block")
        elements.append(Extension(block[at], block[at + 2 : at + 2 + block[at + 1]]))
        at += 2 + block[at + 1]
    return tuple(elements)
