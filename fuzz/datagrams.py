"""What the fuzzers of binary messages share: mutations of a kept corpus, and the loop that looks for faults.

`trial` takes the mutated messages of one try and raises for whatever is not the sender's fault. Corpus files
hold messages one after the other, each behind two bytes of length. Culprits are kept in build/fuzz/NAME.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
SLOW = 1.0
MOST_FAILURES = 10

Trial = Callable[[list[bytes], random.Random], None]


def read_messages(path: Path) -> list[bytes]:
    data, messages, at = path.read_bytes(), [], 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        messages.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return messages


def write_messages(path: Path, messages: list[bytes]) -> None:
    path.write_bytes(b"".join(len(message).to_bytes(2, "big") + message for message in messages))


def mutated(chance: random.Random, messages: list[bytes]) -> list[bytes]:
    """Some messages lost, doubled, swapped, joined or damaged."""
    found = list(messages)
    for _ in range(chance.randint(0, 5)):
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
                cut = chance.randrange(len(found[at]) + 1)
                found[at] = found[at][:cut] + chance.randbytes(chance.choice((1, 2, 4, 60))) + found[at][cut:]
            case 4:
                found[at] += found[chance.randrange(len(found))]
            case _:
                damaged = bytearray(found[at] or b"\0")
                for _ in range(chance.randint(1, 4)):
                    place = chance.randrange(len(damaged))
                    damaged[place] = chance.choice(
                        (damaged[place] ^ 1 << chance.randrange(8), 0, 255, chance.randrange(256))
                    )
                found[at] = bytes(damaged)
    return [message[:65_000] for message in found]


def fuzz(name: str, trial: Trial, seconds: float, seed: int) -> int:
    """How many faults were found."""
    chance = random.Random(f"{name}{seed}")
    corpus = [read_messages(path) for path in sorted((HERE / "corpus" / name).iterdir())]
    failed = HERE.parent / "build" / "fuzz" / name
    end = time.monotonic() + seconds
    tried = failures = 0
    while time.monotonic() < end and failures < MOST_FAILURES:
        messages = mutated(chance, chance.choice(corpus))
        tried += 1
        began = time.monotonic()
        try:
            trial(messages, chance)
            if time.monotonic() - began > SLOW:
                raise AssertionError(f"took {time.monotonic() - began:.1f} s")
        except Exception as error:
            failures += 1
            failed.mkdir(parents=True, exist_ok=True)
            write_messages(failed / f"{seed}-{tried}", messages)
            print(f"{name}: input {tried} of seed {seed}: {type(error).__name__}: {error}")
    print(f"{name}: {tried} inputs, seed {seed}, {failures} failures")
    return failures


def run(name: str, trial: Trial, arguments: list[str]) -> int:
    """`[seconds] [seed]`; the exit code."""
    seconds = float(arguments[0]) if arguments else 60.0
    seed = int(arguments[1]) if len(arguments) > 1 else int(time.time())
    return 1 if fuzz(name, trial, seconds, seed) else 0
