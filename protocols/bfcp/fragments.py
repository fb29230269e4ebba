"""A large message that came over datagrams in parts (RFC 8855 6.2.3), put together again.

    whole = reassembly.add(data)             a datagram with the F flag; the whole message with its last part

One message at a time: the first part of another lets go of what was there. Parts may come twice and in any
order. We send none: our own messages have a few dozen bytes.
"""

from __future__ import annotations

from protocols.bfcp.attributes import MalformedBfcp
from protocols.bfcp.message import FRAGMENT, FRAGMENTED, HEADER, Header

LONGEST = 16_384
"""Bytes of a message's payload that are gathered at most."""


class Reassembly:
    """Of one sender."""

    def __init__(self) -> None:
        self._key: tuple[int, int, int] | None = None
        self._parts: dict[int, bytes] = {}

    def add(self, data: bytes) -> bytes | None:
        """The whole message, as one that came in a single datagram. Raises MalformedBfcp."""
        header = Header.parse(data)
        at = HEADER.size + FRAGMENT.size
        if len(data) < at:
            raise MalformedBfcp("a fragment without offset and length")
        offset, length = (4 * number for number in FRAGMENT.unpack_from(data, HEADER.size))
        if len(data) - at != length:
            raise MalformedBfcp(f"the fragment has {len(data) - at} bytes, it says {length}")
        if offset + length > header.payload_bytes or header.payload_bytes > LONGEST:
            raise MalformedBfcp(f"no part of a message of {header.payload_bytes} bytes that is taken")
        key = (header.transaction_id, header.primitive, header.payload_bytes)
        if key != self._key:
            self._key, self._parts = key, {}
        self._parts[offset] = data[at:]
        payload = self._joined(header.payload_bytes)
        if payload is None:
            return None
        self._key, self._parts = None, {}
        return bytes((data[0] & ~FRAGMENTED,)) + data[1 : HEADER.size] + payload

    def _joined(self, size: int) -> bytes | None:
        """The payload, if no part is missing; of parts that overlap the later ones count."""
        payload, filled = bytearray(size), 0
        for offset, part in sorted(self._parts.items()):
            if offset > filled:
                return None
            payload[offset : offset + len(part)] = part
            filled = max(filled, offset + len(part))
        return bytes(payload) if filled == size else None
