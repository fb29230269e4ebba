"""Watching what the processes of a node hold while something goes on in it.

vigil = Vigil(node)
before = await vigil.held()
async with vigil: ...                       a sample of every process each five seconds
after = await vigil.held()
vigil.problems(before, after, settled=600)  in words; none is good
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from benchmarks.footprint import Footprint, footprint, grown, slope_mb_a_minute
from tests.peers.node import Node

SAMPLE_SECONDS = 5.0
STEEPEST_MB_A_MINUTE = 0.2


@dataclass(frozen=True, slots=True)
class Held:
    """At one moment: a footprint for each process, the tasks and codec lanes that they count themselves."""

    processes: dict[str, Footprint]
    tasks: dict[str, float]


class Vigil:
    """See the module's head."""

    def __init__(self, node: Node) -> None:
        self.samples: dict[str, list[Footprint]] = {}
        self._node = node
        self._began = time.monotonic()
        self._sampling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        self._sampling = asyncio.create_task(self._sample(), name="vigil")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sampling is not None
        self._sampling.cancel()
        await asyncio.gather(self._sampling, return_exceptions=True)

    async def _sample(self) -> None:
        while True:
            for name, one in (await self._footprints()).items():
                self.samples.setdefault(name, []).append(one)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def held(self) -> Held:
        return Held(await self._footprints(), await self._tasks())

    async def _footprints(self) -> dict[str, Footprint]:
        main = self._node.pid("main")
        if main is None:
            raise RuntimeError("the node has no main process")
        pids = {"main": main, **await self._node.worker_pids()}
        at = time.monotonic() - self._began
        return {name: await asyncio.to_thread(footprint, pid, at) for name, pid in pids.items()}

    async def _tasks(self) -> dict[str, float]:
        text = await self._node.metrics()
        wanted = re.findall(r"^anshi_(main|worker)\{([^}]*)\} ([\d.e+]+)$", text, re.MULTILINE)
        counted = {f"{kind} {labels}": float(value) for kind, labels, value in wanted}
        return {key: value for key, value in counted.items() if "tasks" in key or "codec_lanes" in key}

    def growth(self, settled: float) -> dict[str, float]:
        """MB a minute of each process, fitted over what came `settled` seconds after the beginning."""
        return {name: slope_mb_a_minute(samples, settled) for name, samples in self.samples.items()}

    def rss_each_minute(self) -> dict[str, list[float]]:
        step = round(60 / SAMPLE_SECONDS)
        return {name: [round(one.rss_mb, 1) for one in all_[::step]] for name, all_ in self.samples.items()}

    def _threads_early(self, name: str) -> int:
        """The most in the first half: asyncio's executor begins its few as it needs them, and keeps them; a
        leak goes on in the second half."""
        samples = self.samples.get(name, [])
        return max((one.threads for one in samples[: len(samples) // 2]), default=0)

    def problems(self, before: Held, after: Held, settled: float) -> list[str]:
        """What grew, and what stayed behind."""
        found = [
            f"{name} grows by {slope:.2f} MB a minute"
            for name, slope in self.growth(settled).items()
            if slope > STEEPEST_MB_A_MINUTE
        ]
        for name, held in after.processes.items():
            first = before.processes.get(name)
            if first is None:
                found.append(f"{name} is another process than at the start")
                continue
            more = grown(replace(first, threads=max(first.threads, self._threads_early(name))), held)
            found += [f"{name} holds {count} more {what} than it may" for what, count in more.items()]
        for key, count in after.tasks.items():
            if count > before.tasks.get(key, count):
                found.append(f"{key} rose from {before.tasks[key]:g} to {count:g}")
        return found
