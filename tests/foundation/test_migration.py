"""Migrations make the tables the models describe, one process at a time, and never go back."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from foundation.database import Database, DatabaseUnavailable
from foundation.migration import (
    Migrated,
    SchemaLocked,
    SchemaTooNew,
    current_revision,
    known_revision,
    migrate,
)
from foundation.schema import Base


async def test_models_and_migrations_agree(empty_url: str) -> None:
    await migrate(empty_url)
    database = Database(empty_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return list(compare_metadata(context, Base.metadata))

    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with database.reading() as tx:
        connection = await tx.connection()
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(tables) == {*Base.metadata.tables, "alembic_version"}
    await database.aclose()


async def test_a_second_migration_finds_nothing_to_do(empty_url: str) -> None:
    assert await migrate(empty_url) == Migrated(None, known_revision())
    assert await migrate(empty_url) == Migrated(known_revision(), known_revision())


async def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    outcomes = await asyncio.gather(*(migrate(empty_url) for _ in range(4)))
    assert sorted(str(outcome.before) for outcome in outcomes) == [*[str(known_revision())] * 3, "None"]


async def test_newer_schema_is_refused_and_left_alone(empty_url: str) -> None:
    await migrate(empty_url)
    database = Database(empty_url)
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=r"has schema 9999, which is newer than this Anshi knows \(0011\)"):
        await migrate(empty_url)
    assert await current_revision(database) == "9999"
    await database.aclose()


async def test_failed_migration_leaves_nothing_behind(empty_url: str) -> None:
    """A table of ours that is there already stops the migration: all of it, not half."""
    database = Database(empty_url)
    async with database.transaction() as tx:
        await tx.execute(text("CREATE TABLE users (id INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        await migrate(empty_url)

    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with database.reading() as tx:
        connection = await tx.connection()
        assert await connection.run_sync(tables) == {"users"}
    await database.aclose()


async def test_somebody_who_keeps_migrating_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'anshi.db'}"
    other = os.open(tmp_path / "anshi.db.migrating", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(SchemaLocked, match=r"another process has been migrating .*anshi\.db for over 0\.2 s"):
        await migrate(url, lock_timeout=0.2)
    os.close(other)
    assert (await migrate(url)).after == known_revision()


async def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"cannot write .*/absent/anshi\.db\.migrating: No such"):
        await migrate(f"sqlite:///{tmp_path / 'absent' / 'anshi.db'}")
