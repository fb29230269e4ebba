"""Bits that are not cut at bytes: pieces joined, spans cut out, prefix codes read (RFC 2190, RFC 4587)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocols.payloads.bit_reader import EndOfBits

MOST_PEEKED = 32


@dataclass(frozen=True, slots=True)
class BitSpan:
    """Whole bytes, of which the first `sbit` and the last `ebit` bits (0..7) belong to somebody else."""

    data: bytes
    sbit: int = 0
    ebit: int = 0

    @property
    def bits(self) -> int:
        """How many bits are meant; below 0 for a span that contradicts itself."""
        return 8 * len(self.data) - self.sbit - self.ebit

    @classmethod
    def cut(cls, data: bytes, start: int, end: int) -> BitSpan:
        """The bits from `start` up to `end` in the bytes that hold them."""
        return cls(data[start // 8 : -(-end // 8)], start % 8, -end % 8)


def join(spans: Sequence[BitSpan]) -> bytes:
    """All bits of the spans one after another, from the first bit of a byte on; the last byte is filled up
    with zeros."""
    if not any(span.sbit or span.ebit for span in spans):
        return b"".join(span.data for span in spans)
    value = count = 0
    for span in spans:
        bits = span.bits
        piece = int.from_bytes(span.data, "big") >> span.ebit & (1 << bits) - 1
        value, count = value << bits | piece, count + bits
    rest = -count % 8
    return (value << rest).to_bytes((count + rest) // 8, "big")


class NoSuchCode(ValueError):
    """The peer's bits are no word of a variable-length code."""


class BitCursor:
    """A place in a bit string, that looks ahead. Beyond the end it sees zeros, and may not step there.

    The bits are kept as letters, so that long runs of code words are matched by a regular expression.
    """

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.position = position
        self.end = 8 * len(data)
        self._bits = f"{int.from_bytes(data, 'big'):0{self.end}b}"[-self.end :] + "0" * MOST_PEEKED

    @property
    def left(self) -> int:
        return self.end - self.position

    def peek(self, count: int) -> int:
        """The next `count` bits, 1 to MOST_PEEKED, without taking them."""
        return int(self._bits[self.position : self.position + count], 2)

    def skip(self, count: int) -> None:
        """Raises EndOfBits."""
        self.position += count
        if self.position > self.end:
            self.position = self.end
            raise EndOfBits("the bits end before their syntax does")

    def u(self, count: int) -> int:
        """The next `count` bits as an unsigned number. Raises EndOfBits."""
        value = self.peek(count)
        self.skip(count)
        return value

    def skip_match(self, pattern: re.Pattern[str]) -> None:
        """Steps over what the pattern matches from here on. Raises NoSuchCode."""
        found = pattern.match(self._bits, self.position, self.end)
        if found is None:
            raise NoSuchCode(f"no code words at bit {self.position}")
        self.position = found.end()


def spelling(words: Iterable[str]) -> str:
    """A regular expression for any of these words of zeros, ones and dots (either), none of which begins
    another."""
    words = frozenset(words)
    if words <= {""}:
        return ""
    if all(word.startswith(".") for word in words):
        return "." + spelling(word[1:] for word in words)
    branches = [
        digit + spelling(word[1:] for word in words if word[:1] == digit)
        for digit in "01."
        if any(word[:1] == digit for word in words)
    ]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


class PrefixCode:
    """A variable-length code: `words` are (length, word, meaning)."""

    def __init__(self, words: Iterable[tuple[int, int, int]]) -> None:
        words = tuple(words)
        self._longest = max(length for length, _, _ in words)
        table: list[tuple[int, int] | None] = [None] * (1 << self._longest)
        for length, word, meaning in words:
            free = self._longest - length
            for index in range(word << free, word + 1 << free):
                if table[index] is not None:
                    raise ValueError(f"code word {word:0{length}b} begins another")
                table[index] = (meaning, length)
        self._table = tuple(table)

    @classmethod
    def spelt(cls, words: dict[int, str]) -> PrefixCode:
        """`words` are the code words as zeros and ones by their meanings."""
        return cls((len(word), int(word, 2), meaning) for meaning, word in words.items())

    @classmethod
    def in_order(cls, words: str) -> PrefixCode:
        """The words, with spaces between, of the meanings 0, 1, 2 and so on."""
        return cls.spelt(dict(enumerate(words.split())))

    def read(self, cursor: BitCursor) -> int:
        """The meaning of the next word. Raises NoSuchCode, EndOfBits."""
        found = self._table[cursor.peek(self._longest)]
        if found is None:
            raise NoSuchCode(f"no code word at bit {cursor.position}")
        cursor.skip(found[1])
        return found[0]


_MVD_WORDS = (
    (1, 1),
    (2, 1),
    (3, 1),
    (4, 1),
    (6, 3),
    (7, 5),
    (7, 4),
    (7, 3),
    (9, 11),
    (9, 10),
    (9, 9),
    *((10, word) for word in range(17, 3, -1)),
    *((11, word) for word in range(7, 1, -1)),
    (12, 3),
    (12, 2),
)
_MVD = PrefixCode((length, word, size) for size, (length, word) in enumerate(_MVD_WORDS))


def read_motion(cursor: BitCursor) -> int:
    """A component of a motion vector difference (ITU-T H.263 table 14; its first half is H.261 table 3).

    Raises NoSuchCode, EndOfBits.
    """
    size = _MVD.read(cursor)
    return -size if size and cursor.u(1) else size
