"""A migrated database with sites and cameras, a folder of evidence, and who judges in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from analytics.detection import Seen
from analytics.sampler import SamplerState, SamplerStatus
from analytics.violation_writer import ModelName, ViolationWriter
from analytics.watcher import Judging
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.event_bus import InProcessBus
from foundation.events import Event
from foundation.migration import migrate
from foundation.repositories.audit import AuditRecord, AuditRepository
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.sites import Site, SiteRepository
from foundation.repositories.violations import Violation, ViolationRepository

MODEL = ModelName("nanodet", "ab" * 32)
SITES = {"nation": None, "guangxi": "nation", "nanning": "guangxi", "cenxi": "nanning", "guangdong": "nation"}
CAMERAS = {"gate": "nanning", "yard": "cenxi", "pier": "guangdong"}


@dataclass
class Room:
    database: Database
    folder: Path
    threads: ThreadPoolExecutor
    clock: FakeClock = field(default_factory=FakeClock)
    bus: InProcessBus = field(default_factory=InProcessBus)
    events: list[Event] = field(default_factory=list)

    def writer(self) -> ViolationWriter:
        return ViolationWriter(self.database, self.clock, self.threads, self.folder, self.events.append)

    def judging(self, model: ModelName = MODEL) -> Judging:
        return Judging(model, "Asia/Shanghai", self.threads, self.clock)

    async def violations(self) -> list[Violation]:
        """All of them, the oldest first."""
        async with self.database.reading() as tx:
            return list(reversed(await ViolationRepository(tx).page(SITES, limit=1000)))

    async def audited(self) -> tuple[AuditRecord, ...]:
        async with self.database.reading() as tx:
            return tuple(await AuditRepository(tx).after(0, 1000))


@asynccontextmanager
async def evidence_room(folder: Path) -> AsyncIterator[Room]:
    url = f"sqlite:///{folder / 'anshi.db'}"
    await migrate(url)
    database, threads = Database(url, busy_timeout=0.5), ThreadPoolExecutor(1)
    async with database.transaction() as tx:
        for site_id, parent in SITES.items():
            await SiteRepository(tx).save(Site(site_id, site_id, "administration", parent))
        for camera_id, site_id in CAMERAS.items():
            made = datetime(2026, 1, 1, tzinfo=UTC)
            await CameraRepository(tx).add(
                Camera(camera_id, site_id, f"摄像机 {camera_id}", "rtsp://10.0.0.1/1", made)
            )
    room = Room(database, folder / "evidence", threads)
    yield room
    room.bus.close()
    threads.shutdown()
    await database.aclose()


class Script:
    """A sampler that gives what it is told to, and is then silent until closed."""

    def __init__(self, seen: Sequence[Seen] = ()) -> None:
        self.queue: asyncio.Queue[Seen] = asyncio.Queue()
        for one in seen:
            self.queue.put_nowait(one)
        self.opened = 0
        self.closed = 0

    async def __aenter__(self) -> Script:
        self.opened += 1
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.closed += 1

    async def __aiter__(self) -> AsyncIterator[Seen]:
        while True:
            seen = await self.queue.get()
            yield seen
            self.queue.task_done()

    async def give(self, *seen: Seen) -> None:
        """Returns when the watcher has asked for more."""
        for one in seen:
            self.queue.put_nowait(one)
        await self.queue.join()

    def status(self) -> SamplerStatus:
        return SamplerStatus(SamplerState.WATCHING, "", 7, 5, 1.0, 0.9, 0, 0, 0.5)
