"""What meeting control needs beneath it: a real SQLite database with three sites, clock and passwords."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.repositories.sites import Site, SiteRepository
from tests.foundation.conftest import clock, passwords, sqlite_template
from tests.keys import BOX
from tests.signaling.house import House

__all__ = ["clock", "passwords", "sqlite_template"]


@pytest.fixture
def patience() -> float:
    """Seconds that the database waits for its turn; tests of a busy one wait for all of them."""
    return 0.3


@pytest.fixture
async def database(sqlite_template: Path, tmp_path: Path, patience: float) -> AsyncIterator[Database]:
    """nation > guangxi > nanning, and nothing else."""
    path = tmp_path / "anshi.db"
    shutil.copy(sqlite_template, path)
    database = Database(f"sqlite:///{path}", busy_timeout=patience, secrets=BOX)
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        await sites.save(Site("nation", "国家", "administration"))
        await sites.save(Site("guangxi", "广西", "administration", "nation"))
        await sites.save(Site("nanning", "南宁", "administration", "guangxi"))
    yield database
    await database.aclose()


@pytest.fixture
async def house(database: Database, clock: FakeClock) -> House:
    house = House(database, clock)
    await house.meetings.worker_ready("media-0", 100)
    house.meeting = await house.meetings.open("演练", "nation", number="8001")
    return house
