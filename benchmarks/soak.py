"""Participants coming and going for half an hour: does anything grow, does anything stay behind?

    python -m benchmarks.soak [--minutes 30] [--visits 100]

A real node (`anshi run`, one media worker) holds a meeting with two rooms that stay and others that come,
are seen, heard and leave. Every five seconds the resident memory, descriptors, threads, tasks and ports of
each process are noted. Afterwards everybody leaves. Passed when the fitted memory slope of each process
after a third of the time (minute 10 of 30) is at most 0.2 MB a minute, when nothing more is held at the end
than after the first visit, and when every visitor saw and heard the meeting. Prints JSON; exit 1 on failure.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio
from tests.peers.node import ADDRESSES, MeetingHandle, Node

SAMPLE_SECONDS = 5.0
STEEPEST_MB_A_MINUTE = 0.2
SETTLE_SECONDS = 15.0
VISIT_SECONDS = 8.0
DATABASE_CONNECTIONS = 8
"""The pool opens as many when it is asked so much at once, and keeps them: no leak."""
LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""
RESIDENTS = (("nanning", "red", 440.0), ("wuming", "blue", 880.0))
VISITORS = (("mine", "green", 1320.0), ("nation", "yellow", 1760.0))


@dataclass(frozen=True, slots=True)
class Holding:
    """What one process holds at one moment."""

    at: float
    rss_mb: float
    descriptors: int
    threads: int
    udp_ports: int


def holding(pid: int, at: float) -> Holding:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    inodes = {match for link in descriptors if (match := _socket_inode(link)) is not None}
    return Holding(
        at=at,
        rss_mb=int(_field(status, "VmRSS")) / 1024,
        descriptors=len(descriptors),
        threads=int(_field(status, "Threads")),
        udp_ports=sum(1 for inode in _udp_inodes(pid) if inode in inodes),
    )


def _field(status: str, name: str) -> str:
    match = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return match[1] if match else "0"


def _socket_inode(link: Path) -> str | None:
    try:
        target = str(link.readlink())
    except OSError:
        return None
    return target[8:-1] if target.startswith("socket:[") else None


def _udp_inodes(pid: int) -> list[str]:
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("udp", "udp6")]
    lines = [line for table in tables for line in table.read_text().splitlines()[1:]]
    return [line.split()[9] for line in lines]


def slope_mb_a_minute(samples: Sequence[Holding], after: float) -> float:
    """The fitted growth of resident memory from `after` seconds on."""
    kept = [sample for sample in samples if sample.at >= after]
    if len(kept) < 3:
        return 0.0
    minutes = np.array([sample.at / 60 for sample in kept])
    memory = np.array([sample.rss_mb for sample in kept])
    return float(np.polyfit(minutes, memory, 1)[0])


class Soak:
    def __init__(
        self, node: Node, meeting: MeetingHandle, studio: Studio, minutes: float, visits: int
    ) -> None:
        self._node = node
        self._meeting = meeting
        self._studio = studio
        self._seconds = minutes * 60
        self._visits = visits
        self._began = time.monotonic()
        self.samples: dict[str, list[Holding]] = {}
        self.problems: list[str] = []
        self.visited = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    async def run(self) -> None:
        async with AsyncExitStack() as residents:
            for site, colour, tone in RESIDENTS:
                await self._enter(residents, site, colour, tone)
            sampling = asyncio.create_task(self._sample())
            try:
                await self._come_and_go()
            finally:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)

    async def _enter(self, stack: AsyncExitStack, site: str, colour: str, tone: float) -> RoomTerminal:
        settings = TerminalSettings(site, bind=ADDRESSES[site], colour=colour, tone_hz=tone)
        terminal = await stack.enter_async_context(RoomTerminal(settings, self._studio))
        await terminal.dial(self._meeting.uri)
        return terminal

    async def _come_and_go(self) -> None:
        visitors = itertools.cycle(VISITORS)
        for number in range(self._visits):
            due = (number + 1) * self._seconds / self._visits
            site, colour, tone = next(visitors)
            try:
                await self._visit(site, colour, tone)
            except (TimeoutError, AssertionError, RuntimeError) as error:
                self.problems.append(f"visit {number} of {site} at {self.elapsed:.0f} s: {error!r}")
            self.visited += 1
            await asyncio.sleep(max(0.0, due - self.elapsed))

    async def _visit(self, site: str, colour: str, tone: float) -> None:
        async with AsyncExitStack() as stack:
            visitor = await self._enter(stack, site, colour, tone)
            await visitor.hears(RESIDENTS[0][2], timeout=10)
            await asyncio.sleep(min(VISIT_SECONDS, self._seconds / self._visits / 2))
            await visitor.hang_up()

    async def _sample(self) -> None:
        while True:
            await self.note()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def note(self) -> dict[str, Holding]:
        """One sample of every process."""
        noted = {}
        for name, pid in (await self.pids()).items():
            noted[name] = await asyncio.to_thread(holding, pid, self.elapsed)
            self.samples.setdefault(name, []).append(noted[name])
        return noted

    async def pids(self) -> dict[str, int]:
        health = await self._node.health()
        workers = {} if health is None else {worker["name"]: worker["pid"] for worker in health["workers"]}
        return {"main": _parent_of_main(workers, self._node), **workers}

    async def tasks(self) -> dict[str, float]:
        """Tasks, lanes and threads as the processes themselves count them."""
        text = await self._node.metrics()
        wanted = re.findall(r"^anshi_(main|worker)\{([^}]*)\} ([\d.e+]+)$", text, re.MULTILINE)
        counted = {f"{kind} {labels}": float(value) for kind, labels, value in wanted}
        return {key: value for key, value in counted.items() if "tasks" in key or "codec_lanes" in key}


def _parent_of_main(workers: dict[str, int], node: Node) -> int:
    """Main is the supervisor's child that is no worker and no spare: the one that holds the HTTP port."""
    port = f":{node.http_port:04X}"
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        if pid in workers.values():
            continue
        try:
            inodes = {i for link in (process / "fd").iterdir() if (i := _socket_inode(link)) is not None}
            lines = (process / "net/tcp").read_text().splitlines()[1:]
        except OSError:
            continue
        sockets = [line.split() for line in lines]
        if inodes & {s[9] for s in sockets if s[1].endswith(port) and s[3] == LISTENING}:
            return pid
    raise RuntimeError("nobody listens on the node's HTTP port")


async def soak(minutes: float, visits: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="anshi-soak-") as folder:
        async with Node(Path(folder)) as node, Studio() as studio:
            meeting = await node.meeting("soak")
            run = Soak(node, meeting, studio, minutes, visits)
            warm = Soak(node, meeting, studio, 0.5, 1)
            await warm.run()
            await asyncio.gather(*(meeting.participants() for _ in range(DATABASE_CONNECTIONS * 2)))
            await asyncio.sleep(SETTLE_SECONDS)
            before, tasks_before = await warm.note(), await warm.tasks()
            await run.run()
            await asyncio.sleep(SETTLE_SECONDS)
            after, tasks_after = await run.note(), await run.tasks()
            return _verdict(run, minutes, before, after, tasks_before, tasks_after)


def _verdict(
    run: Soak,
    minutes: float,
    before: dict[str, Holding],
    after: dict[str, Holding],
    tasks_before: dict[str, float],
    tasks_after: dict[str, float],
) -> dict[str, object]:
    problems = list(run.problems)
    slopes = {name: slope_mb_a_minute(samples, minutes * 20) for name, samples in run.samples.items()}
    for name, slope in slopes.items():
        if slope > STEEPEST_MB_A_MINUTE:
            problems.append(f"{name} grows by {slope:.2f} MB a minute")
    for name, held in after.items():
        first = before.get(name)
        if first is None:
            problems.append(f"{name} is another process than at the start")
            continue
        for what in ("descriptors", "threads", "udp_ports"):
            more = getattr(held, what) - getattr(first, what)
            if more > 0:
                problems.append(f"{name} holds {more} more {what} than at the start")
    for key, count in tasks_after.items():
        if count > tasks_before.get(key, count):
            problems.append(f"{key} rose from {tasks_before[key]:g} to {count:g}")
    return {
        "minutes": minutes,
        "visits": run.visited,
        "slope_mb_a_minute": {name: round(slope, 3) for name, slope in slopes.items()},
        "rss_mb_each_minute": {
            name: [round(one.rss_mb, 1) for one in samples[:: round(60 / SAMPLE_SECONDS)]]
            for name, samples in run.samples.items()
        },
        "before": {name: asdict(value) for name, value in before.items()},
        "after": {name: asdict(value) for name, value in after.items()},
        "tasks_before": tasks_before,
        "tasks_after": tasks_after,
        "problems": problems,
        "ok": not problems,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.soak", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--visits", type=int, default=100)
    options = parser.parse_args(arguments)
    result = asyncio.run(soak(options.minutes, options.visits))
    Path("build").mkdir(exist_ok=True)
    text = json.dumps(result, ensure_ascii=False, indent=1)
    Path("build/soak.json").write_text(text, encoding="utf-8")
    print(text)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
