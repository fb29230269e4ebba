"""What every fuzzer does: mutations of a kept corpus are tried until the time is over, culprits are kept.

    sys.exit(main([Campaign("stun", try_messages, ...)], sys.argv[1:]))     # [seconds] [seed]

A format says how its inputs are read, written, damaged and tried. `trial` raises for whatever is not the
sender's fault; an input that takes longer than a second is a fault too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

HERE = Path(__file__).parent
SLOW = 1.0
MOST_FAILURES = 10

Input = TypeVar("Input")


@dataclass(frozen=True, slots=True)
class Campaign(Generic[Input]):
    """`name` is the corpus below fuzz/corpus, and where its culprits lie below build/fuzz."""

    name: str
    trial: Callable[[Input, random.Random], None]
    mutated: Callable[[random.Random, list[Input]], Input]
    read: Callable[[Path], Input]
    write: Callable[[Path, Input], object]

    def corpus(self) -> list[Input]:
        return [self.read(path) for path in sorted((HERE / "corpus" / self.name).iterdir())]

    def fuzz(self, seconds: float, seed: int) -> int:
        """How many faults were found."""
        chance = random.Random(f"{self.name}{seed}")
        corpus = self.corpus()
        end = time.monotonic() + seconds
        tried = failures = 0
        while time.monotonic() < end and failures < MOST_FAILURES:
            one = self.mutated(chance, corpus)
            tried += 1
            began = time.monotonic()
            try:
                self.trial(one, chance)
                if time.monotonic() - began > SLOW:
                    raise AssertionError(f"took {time.monotonic() - began:.1f} s")
            except Exception as error:
                failures += 1
                self._keep(f"{seed}-{tried}", one)
                print(f"{self.name}: input {tried} of seed {seed}: {type(error).__name__}: {error}")
        print(f"{self.name}: {tried} inputs, seed {seed}, {failures} failures")
        return failures

    def _keep(self, name: str, culprit: Input) -> None:
        folder = HERE.parent / "build" / "fuzz" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder / name, culprit)


def main(campaigns: Sequence[Campaign[Any]], arguments: Sequence[str], seconds: float = 60.0) -> int:
    """`[seconds] [seed]`, the seconds for each campaign; the exit code."""
    seconds = float(arguments[0]) if arguments else seconds
    seed = int(arguments[1]) if len(arguments) > 1 else int(time.time())
    return 1 if sum(campaign.fuzz(seconds, seed) for campaign in campaigns) else 0
