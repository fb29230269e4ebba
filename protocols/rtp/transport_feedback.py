"""Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 3.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocols.rtp.rtcp_framing import MalformedRtcp, framed, need

TRANSPORT_LAYER_FEEDBACK = 205
FEEDBACK_MESSAGE_TYPE = 15
TICK = 0.00025
"""Seconds in a delta unit."""
REFERENCE_UNIT = 0.064
"""Seconds in a unit of the reference time."""

_HEAD = struct.Struct("!IIHH3sB")
_CHUNK = struct.Struct("!H")
_NOT_RECEIVED, _SMALL, _LARGE = 0, 1, 2
_MAX_RUN = 0x1FFF


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """When each packet of a transport arrived.

    `deltas[i]` belongs to transport sequence number `base_sequence + i`: the time since the packet received
    before it (the first: since the reference time) in 250 us, -32768..32767, or None when it did not arrive.
    `reference_time` is in 64 ms, signed 24 bits; `feedback_count` 8 bits.
    """

    sender_ssrc: int
    media_ssrc: int
    base_sequence: int
    reference_time: int
    feedback_count: int
    deltas: tuple[int | None, ...]

    @classmethod
    def parse(cls, count: int, body: bytes) -> TransportFeedback:
        need(body, _HEAD.size, "transport-wide feedback")
        sender, media, base, packets, reference, number = _HEAD.unpack_from(body)
        symbols, at = _parse_chunks(body, _HEAD.size, packets)
        deltas: list[int | None] = []
        for symbol in symbols:
            if symbol == _NOT_RECEIVED:
                deltas.append(None)
                continue
            size = 1 if symbol == _SMALL else 2
            need(body, at + size, "transport-wide feedback")
            deltas.append(int.from_bytes(body[at : at + size], "big", signed=size == 2))
            at += size
        return cls(sender, media, base, int.from_bytes(reference, "big", signed=True), number, tuple(deltas))

    def __bytes__(self) -> bytes:
        reference = self.reference_time.to_bytes(3, "big", signed=True)
        head = _HEAD.pack(
            self.sender_ssrc,
            self.media_ssrc,
            self.base_sequence,
            len(self.deltas),
            reference,
            self.feedback_count,
        )
        symbols = [_symbol(delta) for delta in self.deltas]
        deltas = b"".join(
            delta.to_bytes(1, "big") if 0 <= delta <= 255 else delta.to_bytes(2, "big", signed=True)
            for delta in self.deltas
            if delta is not None
        )
        body = head + _print_chunks(symbols) + deltas
        return framed(TRANSPORT_LAYER_FEEDBACK, FEEDBACK_MESSAGE_TYPE, body)


def _symbol(delta: int | None) -> int:
    if delta is None:
        return _NOT_RECEIVED
    return _SMALL if 0 <= delta <= 255 else _LARGE


def _parse_chunks(body: bytes, at: int, packets: int) -> tuple[list[int], int]:
    symbols: list[int] = []
    while len(symbols) < packets:
        need(body, at + 2, "transport-wide feedback")
        (chunk,) = _CHUNK.unpack_from(body, at)
        at += 2
        if chunk >> 15 == 0:  # run length
            symbols.extend([chunk >> 13 & 3] * (chunk & _MAX_RUN))
            if not chunk & _MAX_RUN:
                raise MalformedRtcp("transport-wide feedback with an empty run")
        elif chunk >> 14 & 1:  # seven symbols of two bits
            symbols.extend(chunk >> shift & 3 for shift in range(12, -1, -2))
        else:  # fourteen symbols of one bit
            symbols.extend(chunk >> shift & 1 for shift in range(13, -1, -1))
    del symbols[packets:]
    if 3 in symbols:
        raise MalformedRtcp("transport-wide feedback with a reserved packet status")
    return symbols, at


def _print_chunks(symbols: list[int]) -> bytes:
    chunks: list[int] = []
    at = 0
    while at < len(symbols):
        first = symbols[at]
        run = 1
        while run < _MAX_RUN and at + run < len(symbols) and symbols[at + run] == first:
            run += 1
        if run >= 14 or at + run == len(symbols):
            chunks.append(first << 13 | run)
            at += run
            continue
        bits, width = (2, 7) if _LARGE in symbols[at : at + 14] else (1, 14)
        chunk = 1 << 15 | (bits - 1) << 14
        for index, symbol in enumerate(symbols[at : at + width]):
            chunk |= symbol << (width - 1 - index) * bits
        chunks.append(chunk)
        at += width
    return b"".join(map(_CHUNK.pack, chunks))
