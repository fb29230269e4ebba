"""The objects of the recorder process: orders, pre-roll, clips, retention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from config.settings import Settings
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.desk_socket import DeskServer
from foundation.desks import RecordingDesk
from foundation.event_bus import InProcessBus
from foundation.events import Event
from foundation.jobs import JobWorker
from foundation.migration import migrate
from foundation.repositories.violations import CLIP_JOB
from foundation.tasks import TaskScope
from media.codec_worker import CodecPool
from media.link import LinkClient
from media.node_streams import NodeStreams
from orchestrator.control import WorkerAddress
from recordings.clips import ClipCutter, clear_unfinished
from recordings.disk import Disk
from recordings.order_keeper import RecordingParts
from recordings.recording_folder import RecordingFolder
from recordings.recording_keeper import RecordingKeeper
from recordings.retention import Retention
from recordings.shared_streams import SharedStreams

DESK = "recording"
DISK_THREADS = 4
CLIPS_AT_ONCE = 64
"""Most of them wait for the seconds after their violation."""
CLIP_RESCAN_SECONDS = 2.0
"""Jobs are put in by another process, whose events do not come here: the rows are looked at."""
CLIP_LEASE_SECONDS = 15.0
"""How long a killed recorder's clips wait for the next one."""


async def run_recorder(
    settings: Settings,
    socket_path: Path,
    links: Sequence[WorkerAddress],
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Serve the recorder's desk on `socket_path` until `stop` is set; every file is closed by then."""
    announced: list[DeskServer] = []

    def emit(event: Event) -> None:
        for server in announced:
            server.announce(event)

    await migrate(settings.database_url, key_file=settings.key_file)  # whichever process comes first does it
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url)
        stack.push_async_callback(database.aclose)
        disk = Disk(DISK_THREADS)
        stack.push_async_callback(disk.aclose)
        pool = CodecPool(1, "sound")
        stack.push_async_callback(pool.aclose)
        parts = RecordingParts(
            source=SharedStreams(NodeStreams([LinkClient(address.link) for address in links])),
            folder=RecordingFolder(settings.recordings_folder),
            database=database,
            disk=disk,
            clock=SystemClock(),
            pool=pool,
            emit=emit,
            reserve_bytes=settings.recordings.reserve_megabytes << 20,
        )
        keeper = RecordingKeeper(
            parts, preroll_seconds=settings.recordings.preroll, retention=_retention(settings, parts)
        )
        await stack.enter_async_context(keeper)
        scope = await stack.enter_async_context(TaskScope("evidence"))
        worker = _clip_worker(settings, parts, keeper)
        await disk.run(clear_unfinished, settings.evidence_folder)
        scope.supervise("clips", worker.run)
        server = DeskServer(socket_path, {DESK: (RecordingDesk, keeper)})
        announced.append(await stack.enter_async_context(server))
        ready()
        await stop.wait()


def _retention(settings: Settings, parts: RecordingParts) -> Retention:
    days, quota = settings.recordings.max_age_days, settings.recordings.quota_gigabytes
    return Retention(
        parts.database,
        parts.folder,
        parts.disk,
        max_age=None if days is None else timedelta(days=days),
        quota_bytes=None if quota is None else round(quota * 1e9),
        clock=parts.clock,
        emit=parts.emit,
    )


def _clip_worker(settings: Settings, parts: RecordingParts, keeper: RecordingKeeper) -> JobWorker:
    cutter = ClipCutter(
        database=parts.database,
        clock=parts.clock,
        disk=parts.disk,
        folder=parts.folder,
        evidence=settings.evidence_folder,
        preroll=keeper.preroll,
        emit=parts.emit,
        zone=ZoneInfo(settings.analytics.time_zone),
        reserve_bytes=parts.reserve_bytes // 2,
    )
    return JobWorker(
        parts.database,
        InProcessBus(),
        parts.clock,
        {CLIP_JOB: cutter.cut},
        name="recorder",
        concurrency=CLIPS_AT_ONCE,
        rescan=CLIP_RESCAN_SECONDS,
        lease=CLIP_LEASE_SECONDS,
    )
