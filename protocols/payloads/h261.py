"""H.261 over RTP (RFC 4587): payload type 31; pictures split at groups of blocks, else at macroblocks.

A picture has no type in H.261: one whose macroblocks are all there and all INTRA is a key frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.payloads.bit_reader import EndOfBits
from protocols.payloads.bit_string import BitCursor, BitSpan, NoSuchCode, PrefixCode, read_motion, spelling
from protocols.payloads.picture_parts import Part, PictureDepacketizer

DEFAULT_MAX_PAYLOAD = 1200
_HEADER = 4
_PSC_BITS, _GBSC_BITS = 20, 16
_ROW = 11
_IN_GROUP = 33
_GROUPS = {0: (1, 3, 5), 1: tuple(range(1, 13))}
"""Group numbers of QCIF and CIF (ITU-T H.261 figure 6)."""
SIZES = {0: (176, 144), 1: (352, 288)}


class MalformedH261(ValueError):
    """The bytes are no payload of RFC 4587 4.1, or no H.261 picture; the text says which."""


@dataclass(frozen=True, slots=True)
class H261Header:
    """RFC 4587 4.1. Of a packet that begins with a start code all but `sbit` and `ebit` are 0.

    `group` (GOBN), `predictor` (MBAP, the last macroblock's address less 1), `quantizer`, and the motion
    vector `motion_x`, `motion_y` of the last macroblock are what was in effect before it.
    """

    sbit: int
    ebit: int
    intra_only: bool = False
    motion_used: bool = True
    group: int = 0
    predictor: int = 0
    quantizer: int = 0
    motion_x: int = 0
    motion_y: int = 0

    @classmethod
    def parse(cls, payload: bytes) -> H261Header:
        """Raises MalformedH261 also when nothing follows the header."""
        if len(payload) <= _HEADER:
            raise MalformedH261(f"an H.261 payload of {len(payload)} bytes")
        word = int.from_bytes(payload[:_HEADER], "big")
        return cls(
            word >> 29,
            word >> 26 & 7,
            bool(word >> 25 & 1),
            bool(word >> 24 & 1),
            word >> 20 & 15,
            word >> 15 & 31,
            word >> 10 & 31,
            _signed(word >> 5 & 31),
            _signed(word & 31),
        )

    def __bytes__(self) -> bytes:
        word = self.sbit << 29 | self.ebit << 26 | self.intra_only << 25 | self.motion_used << 24
        word |= self.group << 20 | self.predictor << 15 | self.quantizer << 10
        return (word | (self.motion_x & 31) << 5 | self.motion_y & 31).to_bytes(_HEADER, "big")


def _signed(value: int) -> int:
    """Five bits, two's complement."""
    return (value ^ 16) - 16


# --- the bit stream (ITU-T H.261 4.2) -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupStart:
    """Where a GOB header (or with number 0 the picture header) begins, in bits."""

    bit: int
    number: int


def group_starts(picture: bytes) -> list[GroupStart]:
    """Start codes at whatever bit they begin: fifteen zeros, a one, and the number."""
    found: list[GroupStart] = []
    at = picture.find(0)
    while at >= 0:
        before = 0 if at == 0 else _trailing_zeros(picture[at - 1])
        rest = int.from_bytes(picture[at + 1 : at + 4].ljust(3, b"\0"), "big")
        after = 24 - rest.bit_length()
        one = 8 * (at + 1) + after
        if rest and before + 8 + after >= _GBSC_BITS - 1 and one + 5 <= 8 * len(picture):
            number = BitCursor(picture, one + 1).peek(4)
            found.append(GroupStart(one - _GBSC_BITS + 1, number))
        at = picture.find(0, max(one // 8, at + 1))
    return found


def _trailing_zeros(byte: int) -> int:
    return 8 if byte == 0 else (byte & -byte).bit_length() - 1


@dataclass(frozen=True, slots=True)
class Macroblock:
    """What is in effect after a macroblock that ends at `end` (bits): its address in the group (1 to 33), the
    quantizer, its motion vector (0 where it has none)."""

    end: int
    address: int
    intra: bool
    quantizer: int
    motion: tuple[int, int]


_ADDRESS = PrefixCode.in_order(
    "00000001111 1 011 010 0011 0010 00011 00010 0000111 0000110 00001011 00001010 00001001 00001000 "
    "00000111 00000110 0000010111 0000010110 0000010101 0000010100 0000010011 0000010010 00000100011 "
    "00000100010 00000100001 00000100000 00000011111 00000011110 00000011101 00000011100 00000011011 "
    "00000011010 00000011001 00000011000"
)
"""Table 1; 0 is stuffing."""
_QUANTIZED, _MOVED, _PATTERNED, _CODED, _IS_INTRA = 1, 2, 4, 8, 16
_TYPE = PrefixCode.spelt(
    {
        _IS_INTRA | _CODED: "0001",
        _IS_INTRA | _QUANTIZED | _CODED: "0000001",
        _PATTERNED | _CODED: "1",
        _QUANTIZED | _PATTERNED | _CODED: "00001",
        _MOVED: "000000001",
        _MOVED | _PATTERNED | _CODED: "00000001",
        _MOVED | _QUANTIZED | _PATTERNED | _CODED: "0000000001",
        # The same three with the loop filter.
        _MOVED | 32: "001",
        _MOVED | _PATTERNED | _CODED | 32: "01",
        _MOVED | _QUANTIZED | _PATTERNED | _CODED | 32: "000001",
    }
)
"""Table 2, as what the macroblock carries."""
_PATTERN_ORDER = (
    (3, (60,)),
    (4, (4, 8, 16, 32)),
    (5, (12, 48, 20, 40, 28, 44, 52, 56, 1, 61, 2, 62)),
    (6, (24, 36, 3, 63)),
    (7, (5, 9, 17, 33, 6, 10, 18, 34)),
    (8, (7, 11, 19, 35, 13, 49, 21, 41, 14, 50, 22, 42, 15, 51, 23, 43)),
    (8, (25, 37, 26, 38, 29, 45, 53, 57, 30, 46, 54, 58)),
    (9, (31, 47, 55, 59, 27, 39)),
)
"""Table 4: of each length the words count down without a gap, from just below the shorter ones."""


def _pattern_words() -> Iterator[tuple[int, int, int]]:
    word, length = 8, 3
    for next_length, patterns in _PATTERN_ORDER:
        word, length = word << next_length - length, next_length
        for pattern in patterns:
            word -= 1
            yield length, word, pattern


_PATTERN = PrefixCode(_pattern_words())
_WORDS_BY_LENGTH = (
    (2, 3, 3), (3, 3, 3), (4, 4, 5), (5, 5, 7), (6, 4, 7), (7, 4, 7), (8, 32, 39), (10, 8, 15), (12, 16, 31),
    (13, 16, 31),
)  # fmt: skip
"""Table 5: words of coefficients in a row; the sign comes after each."""
_COEFFICIENT = spelling(
    {f"{word:0{length}b}." for length, begin, end in _WORDS_BY_LENGTH for word in range(begin, end + 1)}
    | {"000001" + 14 * "."}
)
_INTRA_BLOCK = re.compile(f".{{8}}(?:{_COEFFICIENT})*+10")
_INTER_BLOCK = re.compile(f"(?:1.)?+(?:{_COEFFICIENT})*+10")
"""A first coefficient has a shorter word, for no end of block can be there."""


class _Group:
    """Walks the macroblocks of one group; see `macroblocks`."""

    def __init__(self, picture: bytes, start: int, end: int) -> None:
        """`start`: of the GOB header; `end`: where the next begins."""
        origin = start // 8
        self._origin = 8 * origin
        self._cursor = cursor = BitCursor(picture[origin : -(-end // 8)], start % 8 + _GBSC_BITS)
        self._end = end - self._origin
        self.number = cursor.u(4)
        self._quantizer = cursor.u(5)
        while cursor.u(1):
            cursor.skip(8)
        self._address = 0
        self._motion = (0, 0)

    def macroblocks(self) -> Iterator[Macroblock]:
        """In order. Raises MalformedH261."""
        try:
            while (macroblock := self._next()) is not None:
                yield macroblock
        except (EndOfBits, NoSuchCode) as error:
            raise MalformedH261(f"the macroblocks of group {self.number} cannot be read: {error}") from None

    def _next(self) -> Macroblock | None:
        cursor = self._cursor
        step = 0
        while not step:
            left = self._end - cursor.position
            if left <= 0 or (cursor.peek(min(left, 15)) == 0 and (left < 8 or left >= 15)):
                return None  # a start code comes, or what fills up the last byte
            step = _ADDRESS.read(cursor)
        self._address += step
        if self._address > _IN_GROUP:
            raise NoSuchCode(f"macroblock {self._address}")
        if step != 1 or self._address in (1, 1 + _ROW, 1 + 2 * _ROW):
            self._motion = (0, 0)
        kind = _TYPE.read(cursor)
        if kind & _QUANTIZED:
            self._quantizer = cursor.u(5)
        if kind & _MOVED:
            x, y = self._motion
            self._motion = (_wrapped(x + read_motion(cursor)), _wrapped(y + read_motion(cursor)))
        else:
            self._motion = (0, 0)
        intra = bool(kind & _IS_INTRA)
        blocks = 0 if not kind & _CODED else 6 if intra else _PATTERN.read(cursor).bit_count()
        for _ in range(blocks):
            cursor.skip_match(_INTRA_BLOCK if intra else _INTER_BLOCK)
        return Macroblock(self._origin + cursor.position, self._address, intra, self._quantizer, self._motion)


def _wrapped(value: int) -> int:
    return (value + 16) % 32 - 16


def picture_size(picture: bytes) -> tuple[int, int] | None:
    """(width, height) by bit 4 of PTYPE; None for what does not begin with a picture header."""
    cursor = BitCursor(picture[:8])
    if cursor.left < 32 or cursor.peek(_PSC_BITS) != 0x10:
        return None
    cursor.skip(_PSC_BITS + 5 + 3)
    return SIZES[cursor.u(1)]


def is_keyframe(picture: bytes) -> bool:
    """Whether every macroblock is there and INTRA; the first that is not ends the search."""
    size = picture_size(picture)
    if size is None:
        return False
    starts = [start for start in group_starts(picture) if start.number]
    wanted = _GROUPS[1 if size == SIZES[1] else 0]
    if tuple(start.number for start in starts) != wanted:
        return False
    ends = [*(start.bit for start in starts[1:]), 8 * len(picture)]
    try:
        for start, end in zip(starts, ends, strict=True):
            count = 0
            for macroblock in _Group(picture, start.bit, end).macroblocks():
                count += 1
                if not macroblock.intra or macroblock.address != count:
                    return False
            if count != _IN_GROUP:
                return False
    except (MalformedH261, EndOfBits):
        return False
    return True


# --- packets --------------------------------------------------------------------------------------------


class H261Packetizer:
    """Whole groups of blocks to a packet, and parts of groups that fit none."""

    def __init__(self, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        if max_payload < 256:
            raise ValueError(f"no room for H.261 macroblocks in {max_payload} bytes")
        self._room = max_payload - _HEADER

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError (MalformedH261) for what is no H.261 picture."""
        if picture_size(frame) is None:
            raise MalformedH261("it does not begin with a picture header")
        groups = [start.bit for start in group_starts(frame) if start.number]
        # The picture header goes with the first group.
        begins = [0, *groups[1:]]
        ends = [*begins[1:], 8 * len(frame)]
        payloads: list[bytes] = []
        start = end = 0
        for index, (begin, until) in enumerate(zip(begins, ends, strict=True)):
            if self._fits(start, until):
                end = until
                continue
            if end > start:
                payloads.append(_piece(frame, start, end))
            start, end = begin, until
            if not self._fits(start, end):
                payloads += self._split(frame, begin, groups[index] if groups else begin, end)
                start = end
        if end > start:
            payloads.append(_piece(frame, start, end))
        return payloads

    def _fits(self, start: int, end: int) -> bool:
        return -(-end // 8) - start // 8 <= self._room

    def _split(self, frame: bytes, begin: int, group_begin: int, end: int) -> list[bytes]:
        """One group in pieces; `begin` may be that of a picture header before it."""
        try:
            group = _Group(frame, group_begin, end)
        except EndOfBits:
            raise MalformedH261("a group of blocks is cut off") from None
        payloads: list[bytes] = []
        start, here = begin, None
        last: Macroblock | None = None
        for macroblock in group.macroblocks():
            if not self._fits(start, macroblock.end):
                if last is None or not self._fits(last.end, macroblock.end):
                    raise MalformedH261(f"macroblock {macroblock.address} fits no packet")
                payloads.append(_piece(frame, start, last.end, group.number, here))
                start, here = last.end, last
            last = macroblock
        if not self._fits(start, end):
            raise MalformedH261(f"group {group.number} has more than its macroblocks")
        return [*payloads, _piece(frame, start, end, group.number, here)]


def _piece(frame: bytes, start: int, end: int, group: int = 0, before: Macroblock | None = None) -> bytes:
    """A packet with these bits; `before` is the macroblock before them, None behind a start code."""
    span = BitSpan.cut(frame, start, end)
    header = H261Header(span.sbit, span.ebit)
    if before is not None:
        header = H261Header(
            span.sbit,
            span.ebit,
            group=group,
            predictor=before.address - 1,
            quantizer=before.quantizer,
            motion_x=before.motion[0],
            motion_y=before.motion[1],
        )
    return bytes(header) + span.data


class H261Depacketizer(PictureDepacketizer):
    """Gathers pictures; after a loss from the next group of blocks on."""

    def _read(self, payload: bytes) -> Part | None:
        try:
            header = H261Header.parse(payload)
        except MalformedH261:
            return None
        span = BitSpan(payload[_HEADER:], header.sbit, header.ebit)
        head = int.from_bytes(payload[_HEADER : _HEADER + 4].ljust(4, b"\0"), "big") << header.sbit
        head &= 0xFFFFFFFF
        return Part(span, resumes=head >> 16 == 1, begins=head >> 12 == 0x10)

    def _is_keyframe(self, picture: bytes) -> bool:
        return is_keyframe(picture)
