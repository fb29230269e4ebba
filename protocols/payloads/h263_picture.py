"""H.263 pictures as far as packets need them: the picture header, start codes, and where macroblocks begin.

Macroblocks are walked for pictures of the baseline syntax only (ITU-T H.263 without optional modes), which is
what terminals agree on where they say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocols.payloads.bit_reader import EndOfBits
from protocols.payloads.bit_string import BitCursor, NoSuchCode, PrefixCode, read_motion, spelling

SIZES = {1: (128, 96), 2: (176, 144), 3: (352, 288), 4: (704, 576), 5: (1408, 1152)}
"""Source formats of table 1: width and height."""
_EXTENDED = 7
_CUSTOM = 6


class MalformedPicture(ValueError):
    """These bytes are no H.263 picture, or not one whose macroblocks we can walk; the text says why."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """5.1. `source_format` as in table 1 (6 is custom, 0 unknown: it was said in an earlier picture).

    `options` are bits 10 to 13 of PTYPE (UMV, SAC, AP, PB); `extended`: it has a PLUSPTYPE. `quantizer` and
    `size` (bits of the header) are 0 of an extended one, whose header is not read further.
    """

    source_format: int
    intra: bool
    width: int = 0
    height: int = 0
    options: int = 0
    extended: bool = False
    temporal_reference: int = 0
    quantizer: int = 0
    size: int = 0

    @classmethod
    def parse(cls, picture: bytes) -> PictureHeader:
        """Raises MalformedPicture."""
        cursor = BitCursor(picture[:64])
        try:
            if cursor.u(22) != 0b100000:
                raise MalformedPicture("it does not begin with a picture start code")
            reference = cursor.u(8)
            if cursor.u(2) != 0b10:
                raise MalformedPicture("the first two bits of PTYPE are not 10")
            cursor.skip(3)
            source = cursor.u(3)
            if source == _EXTENDED:
                return _extended(cursor, reference)
            if source not in SIZES:
                raise MalformedPicture(f"source format {source} is forbidden or reserved")
            inter, options = cursor.u(1), cursor.u(4)
            quantizer = cursor.u(5)
            if cursor.u(1):
                cursor.skip(2)
            if options & 1:
                cursor.skip(5)
            while cursor.u(1):
                cursor.skip(8)
        except EndOfBits:
            raise MalformedPicture("its header is cut off") from None
        width, height = SIZES[source]
        return cls(source, not inter, width, height, options, False, reference, quantizer, cursor.position)


def _extended(cursor: BitCursor, reference: int) -> PictureHeader:
    """PLUSPTYPE (5.1.4), CPM and the custom picture format (5.1.5)."""
    full = cursor.u(3)
    source = width = height = 0
    if full == 1:
        source = cursor.u(3)
        cursor.skip(15)
    elif full != 0:
        raise MalformedPicture(f"UFEP {full} is reserved")
    intra = cursor.u(3) == 0
    cursor.skip(6)
    if source == _CUSTOM:
        if cursor.u(1):
            cursor.skip(2)
        cursor.skip(4)
        width = 4 * (cursor.u(9) + 1)
        cursor.skip(1)
        height = 4 * cursor.u(9)
    elif source in SIZES:
        width, height = SIZES[source]
    return PictureHeader(source, intra, width, height, 0, True, reference)


def is_keyframe(picture: bytes) -> bool:
    """Whether it is an INTRA picture."""
    try:
        return PictureHeader.parse(picture).intra
    except MalformedPicture:
        return False


def keyframe_size(picture: bytes) -> tuple[int, int] | None:
    """(width, height) of an INTRA picture that says it, else None."""
    try:
        header = PictureHeader.parse(picture)
    except MalformedPicture:
        return None
    return (header.width, header.height) if header.intra and header.width and header.height else None


def start_codes(data: bytes) -> list[int]:
    """Where aligned start codes begin (of pictures, groups of blocks, slices, ends), in bytes."""
    found = []
    at = data.find(b"\0\0")
    while at >= 0 and at + 2 < len(data):
        if data[at + 2] & 0x80:
            found.append(at)
            at += 2
        at = data.find(b"\0\0", at + 1)
    return found


@dataclass(frozen=True, slots=True)
class MacroblockStart:
    """Where a macroblock begins, and what its decoder must know by then.

    `bit`: from the picture's beginning; `address` within its group of blocks, from 0; `quantizer` before its
    DQUANT; the motion vector predictors in half samples.
    """

    bit: int
    group: int
    address: int
    quantizer: int
    predictor_x: int
    predictor_y: int


_INTRA_MCBPC = {
    0: "1", 1: "001", 2: "010", 3: "011", 4: "0001", 5: "000001", 6: "000010", 7: "000011", 8: "000000001",
}  # fmt: skip
_INTER_MCBPC = {
    0: "1", 1: "0011", 2: "0010", 3: "000101", 4: "011", 5: "0000111", 6: "0000110", 7: "000000101",
    8: "010", 9: "0000101", 10: "0000100", 11: "00000101", 12: "00011", 13: "00000100", 14: "00000011",
    15: "0000011", 16: "000100", 17: "000000100", 18: "000000011", 19: "000000010", 20: "000000001",
}  # fmt: skip
_STUFFING = -1
# Meanings: 4 * type + the two bits of chrominance blocks, types as in table 9.
_INTRA_TYPES = PrefixCode.spelt(
    {(12 + value if value < 8 else _STUFFING): word for value, word in _INTRA_MCBPC.items()}
)
_INTER_TYPES = PrefixCode.spelt(
    {(value if value < 20 else _STUFFING): word for value, word in _INTER_MCBPC.items()}
)
_CBPY = PrefixCode.in_order(
    "0011 00101 00100 1001 00011 0111 000010 1011 00010 000011 0101 1010 0100 1000 0110 11"
)
"""Table 13, of INTRA macroblocks by the four bits."""
_INTER_Q, _INTER_4V, _INTRA, _INTRA_Q = 1, 2, 3, 4

# Table 16 by length: words in a row, and whether they end their block. The sign bit comes after each.
_COEFFICIENT_RANGES = (
    (2, 2, 2, 0), (3, 6, 6, 0), (4, 14, 15, 0), (4, 7, 7, 1), (5, 11, 13, 0), (6, 16, 21, 0),
    (6, 12, 15, 1), (7, 20, 23, 0), (7, 16, 19, 1), (8, 27, 31, 0), (8, 19, 26, 1), (9, 26, 37, 0),
    (9, 17, 25, 1), (10, 8, 15, 0), (10, 32, 33, 0), (10, 4, 7, 1), (11, 6, 7, 0), (11, 32, 35, 0),
    (11, 4, 5, 1), (11, 36, 39, 1), (12, 80, 87, 0), (12, 88, 95, 1),
)  # fmt: skip


def _coefficients(last: int) -> str:
    """Words of coefficients that do, or do not, end their block, with signs; the escape with its fields."""
    words = {
        f"{word:0{length}b}."
        for length, begin, end, ends in _COEFFICIENT_RANGES
        for word in range(begin, end + 1)
        if ends == last
    }
    return spelling({*words, f"0000011{last}" + 14 * "."})


_BLOCK = re.compile(f"(?:{_coefficients(0)})*+{_coefficients(1)}")
_QUANTIZER_STEPS = (-1, -2, 1, 2)
_MOTION = 32
"""Half samples: vectors lie from -32 to 31 and are counted modulo 64 (6.1.1)."""


def macroblock_starts(picture: bytes, begin: int = 0, end: int | None = None) -> Iterator[MacroblockStart]:
    """Macroblocks of a baseline picture in order, from the start code at byte `begin` on, 0 for all.

    What lies behind byte `end` is not looked at. Raises MalformedPicture where the syntax is broken or is not
    the baseline's.
    """
    header = PictureHeader.parse(picture)
    if header.extended or header.options:
        raise MalformedPicture("its macroblocks are coded in optional modes")
    return _Walk(picture, header, begin, end).macroblocks()


class _Walk:
    def __init__(self, picture: bytes, header: PictureHeader, begin: int, end: int | None) -> None:
        self._origin = 8 * begin
        self._cursor = BitCursor(picture[begin:end], 0 if begin else header.size)
        self._intra = header.intra
        self._columns = header.width // 16
        self._rows = header.height // 16
        self._rows_in_group = {4: 2, 5: 4}.get(header.source_format, 1)
        self._quantizer = header.quantizer
        self._vectors: list[tuple[int, int]] = [(0, 0)] * (self._columns * self._rows)
        self._first_row = 0
        """Of the group that the last GOB header began: vectors above it predict nothing."""
        if begin:
            self._first_row = min((self._cursor.peek(22) & 31) * self._rows_in_group, self._rows)

    def macroblocks(self) -> Iterator[MacroblockStart]:
        try:
            for row in range(self._first_row, self._rows):
                if self._cursor.left < 8:  # fewer bits than a row of macroblocks has: what fills a byte
                    return
                for column in range(self._columns):
                    if column == 0 and row % self._rows_in_group == 0 and row:
                        self._group_header(row)
                    yield self._macroblock(row, column)
        except (EndOfBits, NoSuchCode) as error:
            raise MalformedPicture(f"its macroblocks cannot be read: {error}") from None

    def _group_header(self, row: int) -> None:
        """5.2, where there is one."""
        cursor = self._cursor
        stuffed = next((n for n in range(8) if cursor.peek(17 + n) == 1), None)
        if stuffed is None:
            return
        cursor.skip(17 + stuffed)
        number = cursor.u(5)
        if number != row // self._rows_in_group:
            raise MalformedPicture(f"group {number} comes where {row // self._rows_in_group} is due")
        cursor.skip(2)
        self._quantizer = cursor.u(5)
        self._first_row = row

    def _macroblock(self, row: int, column: int) -> MacroblockStart:
        cursor = self._cursor
        x, y = self._predictor(row, column)
        place = row * self._columns + column
        group, first = divmod(row, self._rows_in_group)
        address = first * self._columns + column
        start = MacroblockStart(self._origin + cursor.position, group, address, self._quantizer, x, y)
        while True:
            if not self._intra and cursor.u(1):
                self._vectors[place] = (0, 0)
                return start
            meaning = (_INTRA_TYPES if self._intra else _INTER_TYPES).read(cursor)
            if meaning != _STUFFING:
                break
        kind, chrominance = divmod(meaning, 4)
        self._vectors[place] = self._body(kind, chrominance, x, y)
        return start

    def _body(self, kind: int, chrominance: int, x: int, y: int) -> tuple[int, int]:
        """What follows MCBPC; the macroblock's motion vector."""
        cursor = self._cursor
        intra = kind in (_INTRA, _INTRA_Q)
        if kind == _INTER_4V:
            raise MalformedPicture("four vectors a macroblock are an optional mode")
        coded = _CBPY.read(cursor)
        coded = (coded if intra else coded ^ 15) << 2 | chrominance
        if kind in (_INTER_Q, _INTRA_Q):
            self._quantizer += _QUANTIZER_STEPS[cursor.u(2)]
            self._quantizer = min(max(self._quantizer, 1), 31)
        vector = (0, 0)
        if not intra:
            vector = (_wrapped(x + read_motion(cursor)), _wrapped(y + read_motion(cursor)))
        for block in range(5, -1, -1):
            if intra:
                cursor.skip(8)
            if coded >> block & 1:
                cursor.skip_match(_BLOCK)
        return vector

    def _predictor(self, row: int, column: int) -> tuple[int, int]:
        """6.1.1: the median of the vectors to the left, above, and above to the right."""
        at = row * self._columns + column
        left = self._vectors[at - 1] if column else (0, 0)
        if row == self._first_row:
            return left
        above = self._vectors[at - self._columns]
        right = self._vectors[at - self._columns + 1] if column + 1 < self._columns else (0, 0)
        return _median(left[0], above[0], right[0]), _median(left[1], above[1], right[1])


def _median(*values: int) -> int:
    return sorted(values)[1]


def _wrapped(value: int) -> int:
    return (value + _MOTION) % (2 * _MOTION) - _MOTION


def group_spans(data: bytes) -> Sequence[tuple[int, int]]:
    """A picture cut at its aligned start codes: (begin, end) in bytes; what comes first begins at 0."""
    begins = [0, *(at for at in start_codes(data) if at)]
    return tuple(zip(begins, [*begins[1:], len(data)], strict=True))
