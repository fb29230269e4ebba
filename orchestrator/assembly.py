"""Builds every object of a process once and hands each its desks; the supervisor's way in.

`run_main` is the main process, `run_media_worker` a media worker, the others what their names say.
Everything a process holds is built in one of these, in the order of its dependencies, and ended in the
reverse order. A spare has imported what main and media workers need; models, and what else only one process
needs, are imported by that process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from config.settings import Settings
from orchestrator.control import WorkerAddress
from orchestrator.main_process import run_main
from orchestrator.media_process import run_media_worker

__all__ = ["run_edge", "run_main", "run_media_worker", "run_recorder", "run_vision"]


async def run_recorder(
    settings: Settings,
    socket: Path,
    streams: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Record, and cut clips; `streams` are the processes that have streams."""
    from orchestrator.recorder_process import run_recorder as run

    await run(settings, socket, streams, stop, ready)


async def run_vision(
    settings: Settings,
    socket: Path,
    streams: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Look at cameras with rules."""
    from orchestrator.vision_process import run_vision as run

    await run(settings, socket, streams, stop, ready)


async def run_edge(
    settings: Settings,
    socket: Path,
    streams: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Broadcast to the public."""
    from orchestrator.edge_process import run_edge as run

    await run(settings, socket, streams, stop, ready)
