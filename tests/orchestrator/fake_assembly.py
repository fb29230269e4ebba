"""Stands where orchestrator.assembly does: the same two functions, around desks that tests can ask.

A file named `main.fail` or `media-0.fail` in the data folder makes that start fail in the way it says.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from config.settings import ConfigurationError, Settings
from foundation.desk_socket import DeskClient, DeskServer
from orchestrator.control import Neighbours, StartFailure, WorkerAddress

if imported := os.environ.get("FAKE_ASSEMBLY_IMPORTED"):
    Path(imported, f"imported-{os.getpid()}").touch()


class ProbeDesk(Protocol):
    async def pid(self) -> int: ...

    async def environment(self, name: str) -> str: ...

    async def hang(self) -> None: ...


class Probe:
    async def pid(self) -> int:
        return os.getpid()

    async def environment(self, name: str) -> str:
        return os.environ.get(name, "")

    async def hang(self) -> None:
        time.sleep(3600)  # the event loop hangs, on purpose


def note(settings: Settings, words: str) -> None:
    """Append a line, with the time, for the test to read."""
    with (settings.data / "journal").open("a", encoding="utf-8") as journal:
        journal.write(f"{time.monotonic():.3f} {words}\n")


async def fail_if_told(settings: Settings, name: str) -> None:
    path = settings.data / f"{name}.fail"
    how = path.read_text() if path.exists() else ""
    if how == "configuration":
        raise ConfigurationError("node.yaml: font: no such file")
    if how == "grouped":
        async with asyncio.TaskGroup():
            raise StartFailure("http.port: taken\nmeanwhile")
    if how == "port":
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            one.listen()
            other.bind(one.getsockname())
    if how == "defect":
        raise KeyError("defect")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


async def run_main(
    settings: Settings, stop: asyncio.Event, around: Neighbours, ready: Callable[[], None]
) -> None:
    workers = (*around.workers, *around.services)
    note(settings, f"main starts {os.getpid()} {' '.join(worker.name for worker in workers)}")
    await fail_if_told(settings, "main")
    watching = [asyncio.create_task(_watch(settings, worker)) for worker in workers]
    ready()
    await stop.wait()
    if (settings.data / "main.slow").exists():
        await asyncio.Event().wait()
    note(settings, "main says goodbye")
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def _watch(settings: Settings, worker: WorkerAddress) -> None:
    client = DeskClient(worker.socket)
    while True:
        pid = await client.connect(wait=None)
        note(settings, f"main has {worker.name} {pid}")
        await client.closed.wait()
        note(settings, f"main lost {worker.name} {pid}")


async def run_media_worker(
    settings: Settings,
    index: int,
    socket_path: Path,
    workers: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    note(settings, f"media-{index} starts {os.getpid()}")
    await fail_if_told(settings, f"media-{index}")
    async with DeskServer(socket_path, {"ProbeDesk": (ProbeDesk, Probe())}):
        ready()
        await stop.wait()
    note(settings, f"media-{index} ends")


async def run_edge(
    settings: Settings,
    socket_path: Path,
    streams: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    note(settings, f"edge starts {os.getpid()} {' '.join(worker.name for worker in streams)}")
    async with DeskServer(socket_path, {"ProbeDesk": (ProbeDesk, Probe())}):
        ready()
        await stop.wait()
    note(settings, "edge ends")
