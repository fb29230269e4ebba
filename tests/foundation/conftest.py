"""Databases for the tests: each that takes `database` or `empty_url` runs on SQLite and a real PostgreSQL."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import delete

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.sites import Site, SiteRepository
from foundation.schema import Base
from tests.keys import BOX
from tests.peers.postgresql import PostgresqlCluster, postgresql
from tests.peers.requirement import requires

__all__ = ["postgresql"]

BOTH = ["sqlite", pytest.param("postgresql", marks=requires("postgresql"))]


def migrated(url: str) -> None:
    """Migrate in a thread: a loop may be running in ours."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(migrate(url))).result()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_shared(postgresql: PostgresqlCluster) -> str:
    """The name of the one database that `database` empties for each test."""
    name = postgresql.create_database()
    migrated(postgresql.url(name))
    return name


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'anshi.db'}"
        return
    cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
    name = cluster.create_database()
    yield cluster.url(name)
    cluster.drop_database(name)


@pytest.fixture(params=BOTH)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database with nothing in it but the sites nation > guangxi > nanning."""
    if request.param == "sqlite":
        path = tmp_path / "anshi.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
        url = cluster.url(request.getfixturevalue("postgresql_shared"))
    database = Database(url, secrets=BOX)
    async with database.transaction() as tx:
        for table in reversed(Base.metadata.sorted_tables):  # on PostgreSQL the tests share one
            await tx.execute(delete(table))
        sites = SiteRepository(tx)
        await sites.save(Site("nation", "国家", "administration"))
        await sites.save(Site("guangxi", "广西", "administration", "nation"))
        await sites.save(Site("nanning", "南宁", "administration", "guangxi"))
    yield database
    await database.aclose()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """Real argon2id, with parameters that cost a test nothing."""
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    yield passwords
    passwords.close()
