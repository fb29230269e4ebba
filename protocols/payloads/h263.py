"""H.263 over RTP as RFC 2190 has it: payload type 34, payload headers of modes A, B and C.

We send mode A, whole groups of blocks to a packet, and mode B within groups that fit no packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocols.payloads.bit_string import BitSpan
from protocols.payloads.h263_picture import (
    MacroblockStart,
    MalformedPicture,
    PictureHeader,
    group_spans,
    is_keyframe,
    macroblock_starts,
)
from protocols.payloads.picture_parts import Part, PictureDepacketizer

DEFAULT_MAX_PAYLOAD = 1200
_MODE_A, _MODE_B, _MODE_C = 4, 8, 12
"""Header sizes in bytes."""


class MalformedH263(ValueError):
    """The peer's payload has no header of RFC 2190 5.1 to 5.3."""


@dataclass(frozen=True, slots=True)
class H263Header:
    """RFC 2190 5.1 (mode A) and 5.2 (mode B, with `macroblock`).

    `source_format` and `intra` as in the picture's PTYPE; `options` its bits 10 to 12 (UMV, SAC, AP). `size`
    is that of the header in bytes. The fields of PB frames (DBQ, TRB, TR) are passed over, and printed as 0.
    """

    sbit: int
    ebit: int
    source_format: int
    intra: bool
    options: int = 0
    macroblock: MacroblockStart | None = None
    size: int = _MODE_A

    @classmethod
    def parse(cls, payload: bytes) -> H263Header:
        """`macroblock.bit` is not known. Raises MalformedH263 also when nothing follows the header."""
        mode_b_or_c = bool(payload) and bool(payload[0] & 0x80)
        size = _MODE_A if not mode_b_or_c else _MODE_C if payload[0] & 0x40 else _MODE_B
        if len(payload) <= size:
            raise MalformedH263(f"an H.263 payload of {len(payload)} bytes")
        sbit, ebit = payload[0] >> 3 & 7, payload[0] & 7
        if not mode_b_or_c:
            flags = payload[1]
            return cls(sbit, ebit, flags >> 5, not flags & 0x10, flags >> 1 & 7)
        word = int.from_bytes(payload[1:8], "big")
        macroblock = MacroblockStart(
            bit=0,
            group=word >> 43 & 31,
            address=word >> 34 & 0x1FF,
            quantizer=word >> 48 & 31,
            predictor_x=_signed(word >> 21 & 0x7F),
            predictor_y=_signed(word >> 14 & 0x7F),
        )
        return cls(sbit, ebit, word >> 53, not word >> 31 & 1, word >> 28 & 7, macroblock, size)

    def __bytes__(self) -> bytes:
        first = self.sbit << 3 | self.ebit
        kind = (0 if self.intra else 8) | self.options
        if self.macroblock is None:
            return bytes([first, self.source_format << 5 | kind << 1, 0, 0])
        start = self.macroblock
        word = self.source_format << 53 | start.quantizer << 48 | start.group << 43 | start.address << 34
        word |= kind << 28 | (start.predictor_x & 0x7F) << 21 | (start.predictor_y & 0x7F) << 14
        return bytes([0x80 | first]) + word.to_bytes(7, "big")


def _signed(value: int) -> int:
    """Seven bits, two's complement."""
    return (value ^ 0x40) - 0x40


class H263Packetizer:
    """Splits pictures at groups of blocks, and at macroblocks where a group is too large."""

    def __init__(self, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        if max_payload < 256:
            raise ValueError(f"no room for H.263 macroblocks in {max_payload} bytes")
        self._room = max_payload - _MODE_B

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError (MalformedPicture) for what cannot be cut by RFC 2190."""
        header = PictureHeader.parse(frame)
        if header.extended:
            raise MalformedPicture("a picture with PLUSPTYPE has no place in RFC 2190; RFC 4629 is for it")
        payloads: list[bytes] = []
        begin = end = 0
        for group_begin, group_end in group_spans(frame):
            if group_end - begin <= self._room:
                end = group_end
                continue
            if end > begin:
                payloads.append(_mode_a(header, frame, 8 * begin, 8 * end))
            begin, end = group_begin, group_end
            if end - begin > self._room:
                payloads += self._split(header, frame, begin, end)
                begin = end
        if end > begin:
            payloads.append(_mode_a(header, frame, 8 * begin, 8 * end))
        return payloads

    def _split(self, header: PictureHeader, frame: bytes, begin: int, end: int) -> list[bytes]:
        """What lies between two start codes in pieces: the first in mode A, for a start code begins it, the
        others in mode B."""
        starts = _Starts(macroblock_starts(frame, begin, end))
        payloads: list[bytes] = []
        at, here = 8 * begin, None
        while -(-8 * end // 8) - at // 8 > self._room:
            following = starts.last_before(8 * (at // 8 + self._room), at)
            if following is None:
                raise MalformedPicture(f"a macroblock at bit {at} fits no packet of {self._room} bytes")
            payloads.append(_piece(header, frame, at, following.bit, here))
            at, here = following.bit, following
        payloads.append(_piece(header, frame, at, 8 * end, here))
        return payloads


class _Starts:
    """Macroblocks in order, read no further than asked."""

    def __init__(self, macroblocks: Iterator[MacroblockStart]) -> None:
        self._macroblocks = macroblocks
        self._next: MacroblockStart | None = next(macroblocks, None)

    def last_before(self, bit: int, after: int) -> MacroblockStart | None:
        """The last one that begins at `bit` at the latest, and behind `after`."""
        found = None
        while self._next is not None and self._next.bit <= bit:
            found, self._next = self._next, next(self._macroblocks, None)
        return found if found is not None and found.bit > after else None


def _mode_a(header: PictureHeader, frame: bytes, start: int, end: int) -> bytes:
    return _piece(header, frame, start, end, None)


def _piece(
    header: PictureHeader, frame: bytes, start: int, end: int, macroblock: MacroblockStart | None
) -> bytes:
    span = BitSpan.cut(frame, start, end)
    prefix = H263Header(
        span.sbit, span.ebit, header.source_format, header.intra, header.options >> 1, macroblock
    )
    return bytes(prefix) + span.data


class H263Depacketizer(PictureDepacketizer):
    """Gathers pictures of any mode, also from senders that cut mode A anywhere."""

    def _read(self, payload: bytes) -> Part | None:
        try:
            header = H263Header.parse(payload)
        except MalformedH263:
            return None
        span = BitSpan(payload[header.size :], header.sbit, header.ebit)
        head = int.from_bytes(payload[header.size : header.size + 4].ljust(4, b"\0"), "big")
        head = head << header.sbit & 0xFFFFFFFF
        return Part(span, resumes=head >> 15 == 1, begins=head >> 10 == 0b100000)

    def _is_keyframe(self, picture: bytes) -> bool:
        return is_keyframe(picture)
