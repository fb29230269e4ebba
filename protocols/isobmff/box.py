"""Boxes: size, four-character type, payload (ISO/IEC 14496-12 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HEADER = 8


class MalformedBox(ValueError):
    """The bytes are not the MP4 boxes they claim to be."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box lies: `start` of its header, `body` of its payload, `end` behind it, in bytes."""

    kind: bytes
    start: int
    body: int
    end: int


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of type `kind` around the parts."""
    return b"".join(((HEADER + sum(map(len, parts))).to_bytes(4, "big"), kind, *parts))


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A box with version and flags (4.2.2)."""
    return box(kind, bytes([version]) + flags.to_bytes(3, "big"), *parts)


def boxes(data: memoryview, start: int, end: int) -> Iterator[Box]:
    """The whole boxes from `start` on; ends before the first one that is cut off at `end`.

    Raises MalformedBox for a size smaller than a header.
    """
    at = start
    while at + HEADER <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        body = at + HEADER
        if size == 1:  # largesize
            body = at + 16
            size = int.from_bytes(data[at + 8 : body], "big") if body <= end else end - at + 1
        elif size == 0:  # to the end of the file
            size = end - at
        if at + size > end:
            return
        if at + size < body:
            raise MalformedBox(f"a box of {size} bytes at {at} is shorter than its header")
        yield Box(bytes(data[at + 4 : at + 8]), at, body, at + size)
        at += size


def child(data: memoryview, parent: Box, *path: bytes) -> Box:
    """The first box at `path` below `parent`, whose children begin at its body. Raises MalformedBox."""
    found = parent
    for kind in path:
        inside = (one for one in boxes(data, found.body, found.end) if one.kind == kind)
        inner = next(inside, None)
        if inner is None:
            raise MalformedBox(f"a {found.kind!r} box without {kind!r}")
        found = inner
    return found


def field(data: memoryview, start: int, size: int, end: int) -> int:
    """An unsigned number of `size` bytes inside a box that ends at `end`. Raises MalformedBox."""
    if start + size > end:
        raise MalformedBox(f"a box ends at {end}, before its field at {start}")
    return int.from_bytes(data[start : start + size], "big")
