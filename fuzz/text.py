"""Inputs that are one message of text: what may happen to its bytes.

A `Damage` changes the bytes in place, at `at`; the others of the corpus lend pieces. What is peculiar to a
format it brings itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz.campaign import Campaign

LONGEST = 200_000
"""Bytes of an input."""

Damage = Callable[[random.Random, bytearray, int, list[bytes]], None]
Trial = Callable[[bytes, random.Random], None]


def campaign(name: str, trial: Trial, splices: Sequence[bytes], more: Sequence[Damage]) -> Campaign[bytes]:
    """Corpus entries are damaged in one to six places; `splices` are what their readers stumble over."""
    damages = (flipped, cut, spliced(splices), noise, *more)

    def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.randint(1, 6)):
            chance.choice(damages)(chance, data, chance.randint(0, len(data)), corpus)
        return bytes(data[:LONGEST])

    return Campaign(name, trial, mutated, Path.read_bytes, Path.write_bytes)


def flipped(chance: random.Random, data: bytearray, at: int, _corpus: list[bytes]) -> None:
    if data:
        data[at % len(data)] ^= 1 << chance.randrange(8)


def cut(chance: random.Random, data: bytearray, at: int, _corpus: list[bytes]) -> None:
    del data[at : at + chance.randint(1, 20)]


def noise(chance: random.Random, data: bytearray, at: int, _corpus: list[bytes]) -> None:
    data[at : at + 1] = chance.randbytes(chance.randint(1, 8))


def spliced(splices: Sequence[bytes]) -> Damage:
    def splice(chance: random.Random, data: bytearray, at: int, _corpus: list[bytes]) -> None:
        data[at:at] = chance.choice(splices) * chance.choice((1, 1, 2, 50))

    return splice
