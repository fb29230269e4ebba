"""Starts the processes of a node and keeps them running.

    code = await supervise(settings, stop, ready)     until `stop` is set; 0, or what went wrong

The table has `main`, `media-0` ..., and `recorder`, `vision`, `edge` as the settings have them; main alone
runs inside this process. A process
that dies is replaced at once by a spare whose imports are done, then with growing delays; main dying
again and again ends the node, a start that cannot succeed ends it with one line. When the node stops,
main goes first (its calls get their goodbye), then the workers, all within STOP_LIMIT seconds. Main
learns of a lost or new worker by the worker's own socket, at once, and of its process id there.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from config.loading import dump
from config.settings import Settings
from foundation.tasks import Backoff
from orchestrator.control import (
    EXIT_FAILED,
    EXIT_START_FAILURE,
    Assign,
    ControlChannel,
    Failed,
    Neighbours,
    Ping,
    Pong,
    Ready,
    StartFailure,
    Stop,
    start_failure,
)
from orchestrator.preflight import data_folder, font_problem, logo_problem, port_problems, socket_folder

MODULE = "orchestrator.assembly"
ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(256 << 10)}
"""For glibc (mallopt(3)): pictures are given back whole when they are freed. Left to itself it puts them
among small things after a while, and the holes they leave look like a leak of some 50 MB."""
MAIN_STOP_LIMIT = 3.2
WORKERS_STOP_LIMIT = 4.4
STOP_LIMIT = 5.0
PING_INTERVAL = 2.0
UNANSWERED_LIMIT = 8
"""Pings in a row without an answer: the event loop hangs, its process is killed and replaced."""
EXIT_LIMIT = 2.0
"""Seconds between a process's last word and its end, threads and all."""
DEATHS_COUNTED = 60.0
MAIN_DEATHS_LIMIT = 5

_log = structlog.get_logger("supervisor")


async def supervise(
    settings: Settings, stop: asyncio.Event, ready: Callable[[], None], *, module: str = MODULE
) -> int:
    """Run the node until `stop` is set; the exit code for the command line.

    `ready` is called once everything works. Raises StartFailure for a start that cannot succeed.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(data_folder(settings.data))
        for problem in (font_problem(settings), logo_problem(settings)):
            if problem is not None:
                raise StartFailure(problem)
        for taken in port_problems(settings):
            raise StartFailure(taken)
        if settings.media.workers == 0 and not services(settings):
            return await _inside(settings, stop, ready, module)
        sockets = stack.enter_context(socket_folder(settings.data))
        return await Supervisor(settings, sockets, lock, module).run(stop, ready)


async def _inside(settings: Settings, stop: asyncio.Event, ready: Callable[[], None], module: str) -> int:
    """Main with its media in this very process."""
    is_ready = False

    def now_ready() -> None:
        nonlocal is_ready
        is_ready = True
        ready()

    running = asyncio.create_task(
        importlib.import_module(module).run_main(settings, stop, Neighbours(), now_ready)
    )
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((running,), timeout=STOP_LIMIT - 0.2)
        if not running.done():
            _log.error("main did not stop in time")
            return EXIT_FAILED
        running.result()
    except Exception as error:
        line = None if is_ready else start_failure(error)
        if line is None:
            raise
        raise StartFailure(line) from error
    finally:
        stopping.cancel()
        running.cancel()
    return 0


class Child:
    """One process from its start to its end. `channel` carries its orders."""

    def __init__(self, process: asyncio.subprocess.Process, channel: ControlChannel) -> None:
        self.process = process
        self.channel = channel
        self.unanswered = 0

    @classmethod
    async def start(cls, module: str, lock: int) -> Child:
        """A process that does its imports and then waits to be told what it is."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "orchestrator.worker_process",
                str(theirs.fileno()),
                str(os.getpid()),
                module,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), lock),
                env={**os.environ, **ALLOCATOR},
            )
        return cls(process, await ControlChannel.open(ours))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def kill(self) -> None:
        if self.running:
            self.process.kill()

    async def ended(self, within: float | None = None) -> int:
        """Its exit code; negative is the signal that ended it. After `within` seconds it is killed."""
        try:
            async with asyncio.timeout(within):
                code = await self.process.wait()
        except TimeoutError:
            self.kill()
            code = await self.process.wait()
        self.channel.close()
        return code


@dataclass(slots=True)
class Place:
    """A row of the table: what runs there, now and again after it died."""

    assign: Assign
    child: Child | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    deaths: deque[float] = field(default_factory=deque)
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, limit=10.0))

    @property
    def name(self) -> str:
        return self.assign.name

    def died(self, now: float) -> float:
        """Seconds to wait before the next start: none the first time within DEATHS_COUNTED."""
        while self.deaths and now - self.deaths[0] > DEATHS_COUNTED:
            self.deaths.popleft()
        if not self.deaths:
            self.backoff.reset()
        self.deaths.append(now)
        return 0.0 if len(self.deaths) == 1 else self.backoff.next_delay()


def services(settings: Settings) -> list[str]:
    """The processes beside main and its media workers."""
    wanted = {
        "recorder": settings.recordings.enabled,
        "vision": settings.analytics.enabled,
        "edge": settings.edge.enabled,
    }
    return [name for name, enabled in wanted.items() if enabled]


def table(settings: Settings, sockets: Path) -> list[Place]:
    """Every process of the node, main first."""
    dumped = dump(settings)

    def address(name: str) -> tuple[str, str]:
        return name, str(sockets / f"{name}.socket")

    workers = tuple(address(f"media-{index}") for index in range(settings.media.workers))
    others = tuple(address(name) for name in services(settings))
    main = Assign("main", "main", 0, dumped, address("main")[1], workers, others)
    streams = workers or (address("main"),)
    places = [Place(main)]
    for index, (name, path) in enumerate(workers):
        places.append(Place(Assign(name, "media", index, dumped, path, workers)))
    for name, path in others:
        places.append(Place(Assign(name, name, 0, dumped, path, streams)))
    return places


class Supervisor:
    """The processes of one node. `lock` is a descriptor that every process holds open."""

    def __init__(self, settings: Settings, sockets: Path, lock: int, module: str = MODULE) -> None:
        self.places = table(settings, sockets)
        self._with_spare = settings.media.spare
        self._lock = lock
        self._module = module
        self._spare: Child | None = None
        self._spare_wanted = asyncio.Event()
        self._children: set[Child] = set()
        self._ending = asyncio.Event()
        self._failure: str | None = None
        self._code = 0

    @property
    def pids(self) -> dict[str, int]:
        """The running processes by name; "spare" is the one that stands by."""
        running = {place.name: place.child.pid for place in self.places if place.child is not None}
        return {**running, "spare": self._spare.pid} if self._spare is not None else running

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> int:
        """Until `stop` is set or the node cannot go on; see `supervise`."""
        ending = asyncio.create_task(self._ending.wait(), name="supervisor.ending")
        work: list[asyncio.Task[Any]] = [
            ending,
            asyncio.create_task(self._end_on(stop), name="supervisor.stop"),
            asyncio.create_task(self._prepare(ready), name="supervisor.ready"),
            *(
                asyncio.create_task(self._keep(place), name=f"supervisor.{place.name}")
                for place in self.places
            ),
        ]
        pending = set(work)
        try:
            while not ending.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # a defect of our own ends the node too
            await self._stop_all()
        finally:
            for child in self._children:
                child.kill()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(*(child.ended() for child in self._children))
        if self._failure is not None:
            raise StartFailure(self._failure)
        return self._code

    async def _end_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._ending.set()

    async def _prepare(self, ready: Callable[[], None]) -> None:
        """Say when all is ready; from then on keep a spare."""
        for place in self.places:
            await place.ready.wait()
        _log.info("ready", pids=self.pids)
        ready()
        while self._with_spare:
            if self._spare is None or not self._spare.running:
                self._spare = await self._start()
            self._spare_wanted.clear()
            await self._spare_wanted.wait()

    async def _start(self) -> Child:
        child = await Child.start(self._module, self._lock)
        self._children.add(child)
        return child

    async def _next_child(self) -> Child:
        """The spare, or a new process when it is not there."""
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.running else await self._start()

    async def _keep(self, place: Place) -> None:
        """Keep one place filled until the node ends."""
        while not self._ending.is_set():
            child = await self._next_child()
            place.child = child
            child.channel.send(place.assign)
            await self._listen(place, child)  # until its end of the socket is closed
            code = await child.ended(within=EXIT_LIMIT)
            self._children.discard(child)
            place.child = None
            if not self._ending.is_set():
                await self._sleep(self._died(place, child.pid, code))

    async def _listen(self, place: Place, child: Child) -> None:
        """Take what a process says while it lives."""
        pinging: asyncio.Task[None] | None = None
        try:
            while (message := await child.channel.receive()) is not None:
                match message:
                    case Ready():
                        place.ready.set()
                        self._spare_wanted.set()
                        pinging = asyncio.create_task(self._ping(place, child), name="supervisor.ping")
                    case Pong():
                        child.unanswered = 0
                    case Failed(line):
                        _log.error("start failed", name=place.name, reason=line)
                        if not place.ready.is_set() and self._failure is None:
                            self._failure = line
        finally:
            if pinging is not None:
                pinging.cancel()

    async def _ping(self, place: Place, child: Child) -> None:
        """Kill a process whose event loop does not answer any more."""
        while child.unanswered < UNANSWERED_LIMIT:
            child.channel.send(Ping())
            child.unanswered += 1
            await asyncio.sleep(PING_INTERVAL)
        _log.error("process hangs", name=place.name, pid=child.pid, pings_unanswered=child.unanswered)
        child.kill()

    def _died(self, place: Place, pid: int, code: int) -> float:
        """Decide what follows a death; the seconds until the next start."""
        if code == EXIT_START_FAILURE and self._failure is not None:
            self._ending.set()
            return 0.0
        delay = place.died(time.monotonic())
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        _log.error("process died", name=place.name, pid=pid, how=how, again_in=round(delay, 2))
        if place.assign.role == "main" and len(place.deaths) > MAIN_DEATHS_LIMIT:
            _log.error("main dies again and again", deaths=len(place.deaths), seconds=DEATHS_COUNTED)
            self._code = EXIT_FAILED
            self._ending.set()
        return delay

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not into the node's end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _stop_all(self) -> None:
        """Main first, then the others; whoever does not go in time is killed."""
        began = time.monotonic()
        if self._spare is not None:
            self._spare.kill()
        main, *others = self.places
        await _stop([main], began + MAIN_STOP_LIMIT)
        await _stop(others, began + WORKERS_STOP_LIMIT)
        for place in self.places:
            if place.child is not None and place.child.running:
                _log.error("process did not stop in time", name=place.name, pid=place.child.pid)


async def _stop(places: Sequence[Place], until: float) -> None:
    """Ask these to stop and wait for them until `until` (monotonic)."""
    children = [place.child for place in places if place.child is not None]
    for child in children:
        child.channel.send(Stop())
    if children:
        endings = [asyncio.ensure_future(child.process.wait()) for child in children]
        await asyncio.wait(endings, timeout=max(0.0, until - time.monotonic()))
        for ending in endings:
            ending.cancel()
