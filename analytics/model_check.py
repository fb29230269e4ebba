"""A model tried out in a process of its own, with bounds on time and memory: a stranger's file may loop,
swell or crash, and takes nobody along.

    checked = await check(folder)        # ModelChecked, or ModelFault as `load` and `Detector` raise it
    python -m analytics.model_check FOLDER
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from analytics.detector import Detector
from analytics.model_package import ModelFault, load

SECONDS = 60.0
MEMORY = 4 << 30
"""Bytes of address space: libraries alone take about one and a half."""
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class ModelChecked:
    """`milliseconds` is what one picture takes on one thread here, the median of a few."""

    name: str
    digest: str
    decoder: str
    classes: tuple[str, ...]
    milliseconds: float


@dataclass(frozen=True, slots=True)
class _Answer:
    checked: ModelChecked | None = None
    fault: str = ""


async def check(folder: Path, *, seconds: float = SECONDS, memory: int = MEMORY) -> ModelChecked:
    """Loads and runs the package in `folder`. Raises ModelFault."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "analytics.model_check", str(folder), str(seconds), str(memory)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    except TimeoutError:
        raise ModelFault(f"{folder}: it could not be loaded and run in {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = msgspec.json.decode(said, type=_Answer)
    except msgspec.DecodeError:
        raise ModelFault(f"{folder}: trying it out {_end(process.returncode)}") from None
    if answer.checked is None:
        raise ModelFault(answer.fault)
    return answer.checked


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}: it needs too much or breaks onnxruntime"
    return f"ended with code {code} and no answer: it needs too much memory or breaks onnxruntime"


def try_out(folder: Path) -> ModelChecked:
    """In this process, without bounds. Raises ModelFault."""
    package = load(folder)
    detector = Detector(package)
    size = package.description.input
    picture = np.random.default_rng(0).integers(0, 255, (size.height, size.width, 3), np.uint8)
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        detector.detect(picture)
        rounds.append(time.perf_counter() - began)
    described = package.description
    milliseconds = round(1000 * sorted(rounds)[ROUNDS // 2], 1)
    return ModelChecked(package.name, package.digest, described.decoder, described.classes, milliseconds)


def main(arguments: Sequence[str]) -> int:
    """FOLDER [SECONDS [MEMORY]]: prints the answer as JSON; 1 when the model cannot be used."""
    folder = Path(arguments[0])
    seconds = float(arguments[1]) if len(arguments) > 1 else SECONDS
    memory = int(arguments[2]) if len(arguments) > 2 else MEMORY
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _Answer(try_out(folder))
    except ModelFault as fault:
        answer = _Answer(fault=str(fault))
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0 if answer.checked else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
