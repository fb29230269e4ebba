"""Passes as rows: found by their hash, gone with their meeting, their time and their number."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from foundation.database import Database
from foundation.repositories.guest_passes import GuestPassRepository, StoredPass
from foundation.schema import ConferenceRow, new_id

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest_asyncio.fixture
async def meeting(database: Database) -> str:
    """A conference's id."""
    row = ConferenceRow(
        id=new_id(),
        number="8001",
        title="会商",
        host_site_id="nanning",
        state="running",
        layout={},
        created_at=NOON,
    )
    async with database.transaction() as tx:
        tx.add(row)
    return str(row.id)


def named(name: str, meeting: str, hours: float) -> StoredPass:
    return StoredPass(name.rjust(64, "0"), meeting, new_id(), name, NOON + timedelta(hours=hours))


@pytest_asyncio.fixture
async def passes(database: Database, meeting: str) -> list[StoredPass]:
    """Four, which end one after the other."""
    kept = [named(name, meeting, hours) for hours, name in enumerate(("a", "b", "c", "d"))]
    async with database.transaction() as tx:
        for one in kept:
            await GuestPassRepository(tx).add(one)
    return kept


async def left(database: Database, passes: list[StoredPass]) -> str:
    async with database.reading() as tx:
        found = [await GuestPassRepository(tx).get(one.token_hash) for one in passes]
    assert all(one in (None, kept) for one, kept in zip(found, passes, strict=True))
    return "".join(one.name for one in found if one is not None)


async def test_they_are_found_and_end(database: Database, passes: list[StoredPass]) -> None:
    assert await left(database, passes) == "abcd"
    async with database.transaction() as tx:
        await GuestPassRepository(tx).remove(passes[1].token_hash)
        await GuestPassRepository(tx).remove("nobody's")
    assert await left(database, passes) == "acd"


@pytest.mark.parametrize(("hour", "kept"), [(-1, "abcd"), (0, "bcd"), (1.5, "cd"), (9, "")])
async def test_their_time_ends(database: Database, passes: list[StoredPass], hour: float, kept: str) -> None:
    async with database.transaction() as tx:
        await GuestPassRepository(tx).remove_expired(NOON + timedelta(hours=hour))
    assert await left(database, passes) == kept


@pytest.mark.parametrize(("most", "kept"), [(0, ""), (2, "cd"), (9, "abcd")])
async def test_the_oldest_go_when_there_are_too_many(
    database: Database, passes: list[StoredPass], most: int, kept: str
) -> None:
    async with database.transaction() as tx:
        await GuestPassRepository(tx).remove_oldest(most)
    assert await left(database, passes) == kept


async def test_a_meeting_takes_its_passes_along(
    database: Database, passes: list[StoredPass], meeting: str
) -> None:
    async with database.transaction() as tx:
        row = await tx.get(ConferenceRow, meeting)
        assert row is not None
        await tx.delete(row)
    assert await left(database, passes) == ""
