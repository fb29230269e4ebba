"""Transactions, and the words for a database that is locked, absent or misnamed."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from foundation.database import Database, DatabaseAddressError, DatabaseBusy, DatabaseUnavailable
from foundation.migration import migrate
from foundation.repositories.sites import Site, SiteRepository
from tests.peers.postgresql import PostgresqlCluster
from tests.peers.requirement import requires

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


async def names(database: Database) -> list[str]:
    async with database.reading() as tx:
        return [site.id for site in await SiteRepository(tx).all()]


async def test_transaction_commits_at_its_end(database: Database) -> None:
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("baise", "百色", "administration", "guangxi"))
    assert await names(database) == ["baise", "guangxi", "nanning", "nation"]


async def test_exception_rolls_back(database: Database) -> None:
    async def fail_half_way() -> None:
        async with database.transaction() as tx:
            await SiteRepository(tx).save(Site("baise", "百色", "administration", "guangxi"))
            raise KeyError("baise")

    with pytest.raises(KeyError):
        await fail_half_way()
    assert "baise" not in await names(database)


async def test_writers_of_one_process_take_turns(database: Database) -> None:
    """Each reads, yields to the others, and writes one more: none is lost."""

    async def add_one() -> None:
        async with database.transaction() as tx:
            wanted = "SELECT conference_budget_bps FROM sites WHERE id = 'nanning'"
            budget = await tx.scalar(text(wanted if database.is_sqlite else f"{wanted} FOR UPDATE"))
            await asyncio.sleep(0)
            change = "UPDATE sites SET conference_budget_bps = :value WHERE id = 'nanning'"
            await tx.execute(text(change), {"value": budget + 1})

    await asyncio.gather(*(add_one() for _ in range(20)))
    async with database.reading() as tx:
        site = await SiteRepository(tx).get("nanning")
    assert site is not None
    assert site.conference_budget_bps == 3_000_020


async def test_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("baise", "百色", "administration", "guangxi"))
        async with asyncio.timeout(2):
            assert "baise" not in await names(database)


async def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        async with database.transaction() as tx:
            await tx.execute(text("INSERT INTO links VALUES ('l', 'nation', 'atlantis', 1)"))


async def test_sqlite_locked_by_another_process_names_it(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "anshi.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}", busy_timeout=0.2)
    assert await names(database) == []
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        with pytest.raises(DatabaseBusy) as caught:
            async with database.transaction():
                pytest.fail("the lock was not seen")
        assert await names(database) == [], "reading goes on"
    finally:
        holder.communicate("")
    assert str(path) in str(caught.value)
    assert f"process {holder.pid} (" in str(caught.value)
    assert "over 0.2 s" in str(caught.value)
    async with database.transaction() as tx:
        await SiteRepository(tx).save(Site("nation", "国家", "administration"))
    assert await names(database) == ["nation"]
    await database.aclose()


async def test_sqlite_kept_by_our_own_task_names_the_task(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "anshi.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}", busy_timeout=0.1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def dawdle() -> None:
        async with database.transaction():
            entered.set()
            await leave.wait()

    dawdler = asyncio.create_task(dawdle(), name="dawdler")
    await entered.wait()
    with pytest.raises(DatabaseBusy, match=r"task 'dawdler' of this process"):
        async with database.transaction():
            pytest.fail("two writers at once")
    leave.set()
    await dawdler
    await database.aclose()


async def test_nested_write_transactions_are_refused_on_sqlite(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "anshi.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    async with database.transaction():
        with pytest.raises(RuntimeError, match="inside another one"):
            async with database.transaction():
                pytest.fail("nested")
    async with database.transaction():
        pass
    await database.aclose()


async def test_too_many_readers_at_once_are_told_so(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "anshi.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}", busy_timeout=0.1, pool_size=1)
    async with database.reading():
        with pytest.raises(DatabaseBusy, match=r"this process has used all its connections for over 0\.1 s"):
            async with database.reading():
                pytest.fail("two connections out of a pool of one")
    await database.aclose()


@requires("postgresql")
async def test_postgresql_refuses_an_unknown_database(postgresql: PostgresqlCluster) -> None:
    database = Database(postgresql.url("atlantis"))
    with pytest.raises(DatabaseUnavailable, match=r'database "atlantis" does not exist'):
        async with database.reading():
            pytest.fail("there is no such database")
    await database.aclose()


@requires("postgresql")
async def test_postgresql_row_lock_is_busy(postgresql: PostgresqlCluster) -> None:
    url = postgresql.url(postgresql.create_database())
    await migrate(url)
    first, second = Database(url), Database(url, busy_timeout=0.2)
    async with first.transaction() as tx:
        await SiteRepository(tx).save(Site("nation", "国家", "administration"))
    async with first.transaction() as tx:
        await tx.execute(text("UPDATE sites SET name = 'a'"))
        with pytest.raises(DatabaseBusy, match=r"another transaction held a lock for over 0\.2 s"):
            async with second.transaction() as other:
                await other.execute(text("UPDATE sites SET name = 'b'"))
    await first.aclose()
    await second.aclose()


@requires("postgresql")
async def test_postgresql_dropped_connections_are_replaced(postgresql: PostgresqlCluster) -> None:
    name = postgresql.create_database()
    await migrate(postgresql.url(name))
    database = Database(postgresql.url(name))
    assert await names(database) == []
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"

    async def lose_connection() -> None:
        async with database.transaction() as tx:
            await asyncio.to_thread(postgresql.psql, kill)
            await tx.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable, match="dropped the connection"):
        await lose_connection()
    assert await names(database) == []
    await database.aclose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("mysql://root:secret@db/anshi", "'mysql' is not supported"),
        ("anshi.db", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_wrong_url_is_the_administrators_mistake(url: str, words: str) -> None:
    with pytest.raises(DatabaseAddressError, match=words) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


async def test_unreachable_server_says_so_without_the_password() -> None:
    database = Database("postgresql://anshi:secret@127.0.0.1:9/anshi")
    with pytest.raises(
        DatabaseUnavailable, match=r"anshi:\*\*\*@127\.0\.0\.1:9/anshi cannot be reached"
    ) as caught:
        async with database.reading():
            pytest.fail("nobody listens on port 9")
    assert "secret" not in str(caught.value)
    await database.aclose()


@pytest.mark.parametrize("content", ["folder", "text"])
async def test_file_that_is_no_database(tmp_path: Path, content: str) -> None:
    path = tmp_path / "anshi.db"
    if content == "folder":
        path.mkdir()
    else:
        path.write_text("this is a letter, not a database; " * 50)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(DatabaseUnavailable, match=r"anshi\.db cannot be used"):
        async with database.transaction():
            pytest.fail("opened")
    await database.aclose()
