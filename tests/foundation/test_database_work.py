"""Whole transactions as one step: committed, undone, put together, and never half done."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from foundation.database import Database, DatabaseBusy
from tests.foundation.test_database import HOLD


def adding(site: str) -> Callable[[Connection], int]:
    """Insert a site; returns how many rows that made."""
    insert = text(
        "INSERT INTO sites (id, name, kind, conference_budget_bps, access_capacity_bps)"
        " VALUES (:id, :id, 'administration', 1, 1)"
    )
    return lambda connection: connection.execute(insert, {"id": site}).rowcount


def sites(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute(text("SELECT id FROM sites"))}


async def added(database: Database) -> set[str]:
    return await database.read(sites) - {"nation", "guangxi", "nanning"}


async def test_work_is_committed_and_what_it_returns_comes_back(database: Database) -> None:
    assert await database.write(adding("baise")) == 1
    assert await added(database) == {"baise"}


async def test_work_that_raises_is_undone(database: Database) -> None:
    def half(connection: Connection) -> None:
        adding("baise")(connection)
        raise KeyError("baise")

    with pytest.raises(KeyError, match="baise"):
        await database.write(half)
    assert await added(database) == set()


async def test_of_many_at_once_one_that_fails_undoes_itself_only(database: Database) -> None:
    def half(connection: Connection) -> None:
        adding("atlantis")(connection)
        raise KeyError("atlantis")

    steps = [database.write(adding(f"site-{number}")) for number in range(20)]
    steps.insert(10, database.write(half))  # type: ignore[arg-type]  # raises instead of returning
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int] * 10 + [KeyError] + [int] * 10
    assert await added(database) == {f"site-{number}" for number in range(20)}


async def test_work_and_transactions_take_turns(database: Database) -> None:
    async def by_session(site: str) -> None:
        async with database.transaction() as tx:
            await (await tx.connection()).run_sync(adding(site))

    await asyncio.gather(
        *(by_session(f"s-{number}") for number in range(5)),
        *(database.write(adding(f"w-{number}")) for number in range(5)),
    )
    assert len(await added(database)) == 10


@pytest.fixture
async def file(tmp_path: Path, sqlite_template: Path) -> Path:
    path = tmp_path / "anshi.db"
    path.write_bytes(sqlite_template.read_bytes())
    return path


async def test_what_waits_together_is_committed_together(file: Path) -> None:
    database = Database(f"sqlite:///{file}")

    def noted(connection: Connection) -> int:
        return id(connection)

    async with database.transaction():
        waiting = [asyncio.create_task(database.write(noted)) for _ in range(3)]
        await asyncio.sleep(0)
    assert len({await one for one in waiting}) == 1
    await database.aclose()


async def test_work_goes_on_when_nobody_waits_for_it_any_more(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        adding("baise")(connection)
        begun.set()
        go_on.wait(10)

    task = asyncio.create_task(database.write(slow))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    after = asyncio.create_task(database.write(sites))
    go_on.set()
    assert await after == {"baise"}, "the next one comes after it"
    await database.aclose()


async def test_work_inside_a_transaction_of_the_same_task_is_refused(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    async with database.transaction():
        with pytest.raises(RuntimeError, match="inside another one"):
            await database.write(sites)
    assert await database.write(sites) == set()
    await database.aclose()


async def test_whoever_keeps_the_turn_or_the_lock_is_named(file: Path) -> None:
    database = Database(f"sqlite:///{file}", busy_timeout=0.2)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def dawdle() -> None:
        async with database.transaction():
            entered.set()
            await leave.wait()

    dawdler = asyncio.create_task(dawdle(), name="dawdler")
    await entered.wait()
    with pytest.raises(DatabaseBusy, match=r"task 'dawdler' of this process"):
        await database.write(sites)
    assert await database.read(sites) == set(), "reading goes on"
    leave.set()
    await dawdler
    command = [sys.executable, "-c", HOLD, str(file)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        with pytest.raises(DatabaseBusy, match=rf"process {holder.pid} \("):
            await database.write(adding("baise"))
    finally:
        holder.communicate("")
    assert await database.write(adding("baise")) == 1
    await database.aclose()


async def test_closing_writes_what_was_asked_for_first(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    asked = [asyncio.create_task(database.write(adding(f"s-{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    await database.aclose()
    assert await asyncio.gather(*asked) == [1] * 5
