"""A process that the supervisor started: imports first, then becomes what it is told to be.

    python -m orchestrator.worker_process FD PARENT MODULE

FD is its end of the control socket, PARENT the supervisor's process id, MODULE where `run_main`,
`run_media_worker` and the like are (orchestrator.assembly). Until the first message it is a spare:
everything is imported, nothing is opened. It ends by itself when the supervisor is gone. SIGINT is left
to the supervisor; a SIGTERM, which service managers send to every process at once, ends a worker only
after main has had time to say goodbye to its calls.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import structlog

from config.loading import restore
from config.settings import Settings
from foundation.telemetry import configure_logging, log_context
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
    Stop,
    WorkerAddress,
    start_failure,
)

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
WORKER_LINGERS = 3.0
"""Seconds that a worker outlives a SIGTERM or the supervisor, so that main can end its calls first."""
TRIM_INTERVAL = 60.0
ORPHAN_LIMIT = 4.5
"""Seconds after the supervisor's death at which a process ends, whatever it is doing."""

_log = structlog.get_logger("worker_process")

Role = Callable[[ModuleType, Settings, Assign, asyncio.Event, Callable[[], None]], Awaitable[None]]


def _addresses(named: tuple[tuple[str, str], ...]) -> tuple[WorkerAddress, ...]:
    return tuple(WorkerAddress(name, Path(path)) for name, path in named)


async def _main(
    module: ModuleType, settings: Settings, assign: Assign, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    around = Neighbours(_addresses(assign.workers), _addresses(assign.services), Path(assign.socket))
    await module.run_main(settings, stop, around, ready)


async def _media(
    module: ModuleType, settings: Settings, assign: Assign, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    socket, workers = Path(assign.socket), _addresses(assign.workers)
    await module.run_media_worker(settings, assign.index, socket, workers, stop, ready)


def _service(run: str) -> Role:
    """A process that asks the media workers, or main, for streams."""

    async def role(
        module: ModuleType, settings: Settings, assign: Assign, stop: asyncio.Event, ready: Callable[[], None]
    ) -> None:
        streams = _addresses(assign.workers)
        await getattr(module, run)(settings, Path(assign.socket), streams, stop, ready)

    return role


ROLES: dict[str, Role] = {
    "main": _main,
    "media": _media,
    "recorder": _service("run_recorder"),
    "vision": _service("run_vision"),
    "edge": _service("run_edge"),
}
"""Every kind of process; a new kind is a row here and a place in the supervisor's table."""


def log_settings(settings: Settings) -> None:
    """Log as the settings say."""
    as_json = {"auto": None, "json": True, "text": False}[settings.logging.format]
    configure_logging(settings.logging.level, as_json=as_json)


def prctl(option: int, value: int | bytes) -> None:
    """prctl(2); raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class _Process:
    """This process between its first message and its end."""

    def __init__(self, channel: ControlChannel, module: ModuleType) -> None:
        self._channel = channel
        self._module = module
        self._stop = asyncio.Event()
        self._ready = False
        self._lingers = 0.0

    async def run(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        first = asyncio.create_task(self._channel.receive())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((first, stopped), return_when=asyncio.FIRST_COMPLETED)
        assign = first.result() if first.done() else None
        first.cancel()
        stopped.cancel()
        if not isinstance(assign, Assign):
            return 0  # a spare that was never needed
        settings = restore(assign.settings)
        log_settings(settings)
        prctl(PR_SET_NAME, f"anshi-{assign.name}".encode()[:15])
        self._lingers = 0.0 if assign.role == "main" else WORKER_LINGERS
        with log_context(process=assign.name):
            around = (
                asyncio.create_task(self._obey(), name="control"),
                asyncio.create_task(give_back_freed_memory(), name="memory"),
            )
            try:
                return await self._work(settings, assign)
            finally:
                for task in around:
                    task.cancel()

    async def _work(self, settings: Settings, assign: Assign) -> int:
        try:
            await ROLES[assign.role](self._module, settings, assign, self._stop, self._started)
        except Exception as error:
            line = None if self._ready else start_failure(error)
            if line is None:
                _log.exception("process failed", name=assign.name)
                return EXIT_FAILED
            self._channel.send(Failed(line))
            await self._channel.flush()
            return EXIT_START_FAILURE
        return 0

    def _started(self) -> None:
        self._ready = True
        gc.collect()
        gc.freeze()  # what the imports made is never garbage: later collections need not look at it
        gc.collect()  # a full collection waits for a quarter of what the last one left: of nothing, now
        self._channel.send(Ready())

    def _terminated(self) -> None:
        asyncio.get_running_loop().call_later(self._lingers, self._stop.set)

    async def _obey(self) -> None:
        while (message := await self._channel.receive()) is not None:
            if isinstance(message, Ping):
                self._channel.send(Pong())
            elif isinstance(message, Stop):
                self._stop.set()
        _log.error("the supervisor is gone")
        end_by_force(ORPHAN_LIMIT)
        self._terminated()


async def give_back_freed_memory() -> None:
    """What is freed between what is kept stays in the C library's heap, by which a process grows for hours:
    the pages go back to the system (malloc_trim(3), a millisecond). Returns where there is no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(TRIM_INTERVAL)
        trim(0)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop, where it can be had."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def end_by_force(seconds: float) -> None:
    """End this process in `seconds`, even if its event loop hangs."""
    timer = threading.Timer(seconds, os._exit, (EXIT_FAILED,))
    timer.daemon = True
    timer.start()


async def _live(end: socket.socket, module: ModuleType) -> int:
    channel = await ControlChannel.open(end)
    try:
        return await _Process(channel, module).run()
    finally:
        channel.close()


def main(arguments: list[str]) -> int:
    """See the module's text; returns the exit code."""
    descriptor, parent, module = int(arguments[0]), int(arguments[1]), arguments[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return EXIT_FAILED  # it died before we could ask to be told
    end = socket.socket(fileno=descriptor)
    end.set_inheritable(False)
    imported = importlib.import_module(module)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_live(end, imported))


def leave(code: int) -> NoReturn:
    """Leave at once: everything of ours is closed, and to take the interpreter apart costs seconds on a busy
    machine, which a stop does not have."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
