"""The audit chain holds under concurrency and names the first row that was touched."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from foundation.audit import AuditEntry, AuditHead, AuditTrail, head, verify
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.repositories.audit import AuditRepository


async def append(database: Database, clock: FakeClock, *entries: AuditEntry) -> None:
    for entry in entries:
        async with database.transaction() as tx:
            await AuditTrail(tx, clock).append(entry)


async def fill(database: Database, clock: FakeClock, rows: int = 5) -> None:
    await append(
        database, clock, *(AuditEntry("刘", "mute", f"participant:{n}", detail={"n": n}) for n in range(rows))
    )


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(text(statement))


async def test_untouched_chain_holds(database: Database, clock: FakeClock) -> None:
    assert await verify(database)
    assert await head(database) is None
    await fill(database, clock)
    report = await verify(database)
    assert report
    assert (report.rows, report.broken_at) == (5, None)


@pytest.mark.parametrize(
    ("statement", "broken_at", "words"),
    [
        ("UPDATE audit SET actor = 'wang' WHERE sequence = 3", 3, "row 3 was altered"),
        ("UPDATE audit SET detail = '{}' WHERE sequence = 1", 1, "row 1 was altered"),
        ("UPDATE audit SET outcome = 'refused' WHERE sequence = 5", 5, "row 5 was altered"),
        ("UPDATE audit SET previous_hash = hash WHERE sequence = 2", 2, "row 2 does not follow"),
        ("DELETE FROM audit WHERE sequence = 4", 4, "row 4 is missing"),
        ("DELETE FROM audit WHERE sequence = 1", 1, "row 1 is missing"),
        ("UPDATE audit SET sequence = 99 WHERE sequence = 2", 2, "row 2 is missing"),
        ("UPDATE audit SET at = '2020-01-01 00:00:00+00:00' WHERE sequence = 3", 3, "row 3 was altered"),
    ],
)
async def test_first_broken_row_is_named(
    database: Database, clock: FakeClock, statement: str, broken_at: int, words: str
) -> None:
    await fill(database, clock)
    await execute(database, statement)
    report = await verify(database)
    assert not report
    assert report.broken_at == broken_at
    assert words in report.reason


async def test_a_cut_off_tail_shows_against_a_head_kept_elsewhere(
    database: Database, clock: FakeClock
) -> None:
    await fill(database, clock)
    kept = await head(database)
    assert kept is not None
    await fill(database, clock, 2)
    assert await verify(database, kept)
    await execute(database, "DELETE FROM audit WHERE sequence > 3")
    assert await verify(database)
    report = await verify(database, kept)
    assert (report.broken_at, report.reason) == (4, "the chain ends after row 3; later rows were removed")
    assert (await verify(database, AuditHead(2, "0" * 64))).broken_at == 2


async def test_concurrent_appends_make_one_chain(database: Database, clock: FakeClock) -> None:
    """Through several engines, as several processes would."""
    others = [Database(database.url.render_as_string(hide_password=False), busy_timeout=20) for _ in range(3)]
    entries = [AuditEntry(f"user{n}", "sign-in") for n in range(10)]
    await asyncio.gather(*(append(each, clock, entry) for each in (database, *others) for entry in entries))
    report = await verify(database)
    assert report, report.reason
    assert report.rows == 40
    for other in others:
        await other.aclose()


async def test_a_row_falls_with_its_deed(database: Database, clock: FakeClock) -> None:
    async def fail_after_audit() -> None:
        async with database.transaction() as tx:
            await AuditTrail(tx, clock).append(AuditEntry("liu", "mute"))
            raise KeyError("deed")

    with pytest.raises(KeyError):
        await fail_after_audit()
    await fill(database, clock, 1)
    assert (await verify(database)).rows == 1


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "名" * 300, "x\n\u2028y", ""])
async def test_whatever_strangers_type_is_stored_and_verifies(
    database: Database, clock: FakeClock, name: str
) -> None:
    await append(database, clock, AuditEntry(name, "sign-in", f"user:{name}", "refused", "::1", {"名": name}))
    assert await verify(database)
    async with database.reading() as tx:
        (row,) = await AuditRepository(tx).after(0, 10)
    assert len(row.actor) <= 64
    assert row.address == "::1"


async def test_search_filters_and_pages(database: Database, clock: FakeClock) -> None:
    start = clock.now()
    for number in range(10):
        await append(database, clock, AuditEntry("liu" if number % 2 else "wang", "mute", str(number)))
        clock.advance(60)
    async with database.reading() as tx:
        audit = AuditRepository(tx)
        newest = await audit.search(limit=3)
        assert [row.subject for row in newest] == ["9", "8", "7"]
        assert [row.subject for row in await audit.search(limit=2, before=newest[-1].sequence)] == ["6", "5"]
        assert {row.subject for row in await audit.search(actor="liu")} == {"1", "3", "5", "7", "9"}
        first_two = await audit.search(since=start, until=start + timedelta(seconds=120))
        assert [row.subject for row in first_two] == ["1", "0"]
        assert await audit.search(action="unmute") == ()
