"""Inputs that are runs of binary messages: datagrams of a protocol, payloads of a stream.

Corpus files hold messages one after the other, each behind two bytes of length.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from fuzz.campaign import Campaign

LONGEST = 65_000
"""Bytes of a message."""

Damage = Callable[[random.Random, bytes], bytes]
Trial = Callable[[list[bytes], random.Random], None]


def campaign(name: str, trial: Trial, damage: Damage | None = None) -> Campaign[list[bytes]]:
    """`damage` is what becomes of one message, where damage anywhere in it is not what is looked for."""

    def mutated(chance: random.Random, corpus: list[list[bytes]]) -> list[bytes]:
        return rearranged(chance, chance.choice(corpus), damage or damaged)

    return Campaign(name, trial, mutated, read_messages, write_messages)


def read_messages(path: Path) -> list[bytes]:
    data, messages, at = path.read_bytes(), [], 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        messages.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return messages


def write_messages(path: Path, messages: list[bytes]) -> None:
    path.write_bytes(b"".join(len(message).to_bytes(2, "big") + message for message in messages))


def rearranged(chance: random.Random, messages: list[bytes], damage: Damage) -> list[bytes]:
    """Some messages lost, doubled, swapped, cut, joined or damaged."""
    found = list(messages)
    for _ in range(chance.randint(0, 6)):
        if not found:
            return [b""]
        at = chance.randrange(len(found))
        match chance.randrange(8):
            case 0:
                del found[at]
            case 1:
                found.insert(chance.randrange(len(found)), found[at])
            case 2:
                found[at] = found[at][: chance.randrange(len(found[at]) + 1)]
            case 3:
                found[at] += found[chance.randrange(len(found))]
            case _:
                found[at] = damage(chance, found[at])
    return [message[:LONGEST] for message in found] or [b""]


def damaged(chance: random.Random, message: bytes) -> bytes:
    """A piece put in, or some bytes changed, anywhere."""
    if not chance.randrange(4):
        cut = chance.randrange(len(message) + 1)
        return message[:cut] + chance.randbytes(chance.choice((1, 2, 4, 60))) + message[cut:]
    found = bytearray(message or b"\0")
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(found))
        found[place] = chance.choice((found[place] ^ 1 << chance.randrange(8), 0, 255, chance.randrange(256)))
    return bytes(found)
