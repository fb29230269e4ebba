"""A migrated SQLite database with one site, a folder, and the threads that write."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.migration import migrate
from foundation.repositories.sites import Site, SiteRepository
from recordings.disk import Disk
from recordings.recording_folder import RecordingFolder


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'anshi.db'}"
    await migrate(url)
    database = Database(url)
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("nanning", "南宁", "administration"))
    yield database
    await database.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> RecordingFolder:
    return RecordingFolder(tmp_path / "recordings")


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    disk = Disk()
    yield disk
    await disk.aclose()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
