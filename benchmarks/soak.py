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
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.vigil import Held, Vigil
from orchestrator.demo.terminal.room_terminal import RoomTerminal
from orchestrator.demo.terminal.settings import TerminalSettings
from orchestrator.demo.terminal.studio import Studio
from tests.peers.node import ADDRESSES, MeetingHandle, Node

SETTLE_SECONDS = 15.0
VISIT_SECONDS = 8.0
DATABASE_CONNECTIONS = 8
"""The pool opens as many when it is asked so much at once, and keeps them: no leak."""
RESIDENTS = (("nanning", "red", 440.0), ("wuming", "blue", 880.0))
VISITORS = (("mine", "green", 1320.0), ("nation", "yellow", 1760.0))


class Soak:
    def __init__(self, meeting: MeetingHandle, studio: Studio, minutes: float, visits: int) -> None:
        self._meeting = meeting
        self._studio = studio
        self._seconds = minutes * 60
        self._visits = visits
        self._began = time.monotonic()
        self.problems: list[str] = []
        self.visited = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    async def run(self) -> None:
        self._began = time.monotonic()
        async with AsyncExitStack() as residents:
            for site, colour, tone in RESIDENTS:
                await self._enter(residents, site, colour, tone)
            await self._come_and_go()

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


async def settle(meeting: MeetingHandle) -> None:
    """Everybody has left: let what follows end, and make the database's pool as large as it ever is."""
    await asyncio.gather(*(meeting.participants() for _ in range(DATABASE_CONNECTIONS * 2)))
    await asyncio.sleep(SETTLE_SECONDS)


async def soak(minutes: float, visits: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="anshi-soak-") as folder:
        async with Node(Path(folder)) as node, Studio() as studio:
            meeting = await node.meeting("soak")
            await Soak(meeting, studio, 0.5, 1).run()
            await settle(meeting)
            vigil, run = Vigil(node), Soak(meeting, studio, minutes, visits)
            before = await vigil.held()
            async with vigil:
                await run.run()
            await settle(meeting)
            problems = [*run.problems, *vigil.problems(before, after := await vigil.held(), minutes * 20)]
            return {
                "minutes": minutes,
                "visits": run.visited,
                **told(vigil, before, after, minutes, problems),
            }


def told(
    vigil: Vigil, before: Held, after: Held, minutes: float, problems: Sequence[str]
) -> dict[str, object]:
    """What was seen, for JSON."""
    return {
        "slope_mb_a_minute": {name: round(slope, 3) for name, slope in vigil.growth(minutes * 20).items()},
        "rss_mb_each_minute": vigil.rss_each_minute(),
        "before": asdict(before),
        "after": asdict(after),
        "problems": list(problems),
        "ok": not problems,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.soak", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--visits", type=int, default=100)
    options = parser.parse_args(arguments)
    return publish(asyncio.run(soak(options.minutes, options.visits)), Path("build/soak.json"))


def publish(result: dict[str, object], path: Path) -> int:
    """Print and write what came out; the exit code."""
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(result, ensure_ascii=False, indent=1)
    path.write_text(text, encoding="utf-8")
    print(text)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
