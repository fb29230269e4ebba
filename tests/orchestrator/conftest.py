"""A running HTTP edge for the tests that ask it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.orchestrator.http_service import Service, prepare, serving


@pytest.fixture(scope="session")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with the sites of the tests, to be copied."""
    path = tmp_path_factory.mktemp("http") / "template.db"
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in ours
        thread.submit(lambda: asyncio.run(prepare(f"sqlite:///{path}"))).result()
    return path


@pytest.fixture
def sqlite_file(prepared_sqlite: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(prepared_sqlite, tmp_path / "anshi.db"))


@pytest.fixture
async def service(sqlite_file: Path) -> AsyncIterator[Service]:
    async with serving(sqlite_file) as service:
        yield service
