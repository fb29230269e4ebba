"""The index of recordings, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from foundation.database import Database
from foundation.repositories.recordings import (
    Recording,
    RecordingKind,
    RecordingRepository,
    RecordingState,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def recording(number: int, site: str = "nanning") -> Recording:
    return Recording(
        id=f"{number:032x}",
        kind=RecordingKind.CAMERA,
        subject="34020000001320000001",
        site_id=site,
        path=f"camera/34020000001320000001/{number}.mp4",
        codecs="avc1.42c01f,opus",
        width=1280,
        height=720,
        started_at=NOON + timedelta(minutes=number),
    )


async def test_a_row_is_opened_and_finished_once(database: Database) -> None:
    first, end = recording(1), NOON + timedelta(minutes=2)
    async with database.transaction() as tx:
        index = RecordingRepository(tx)
        await index.open(first)
        assert await index.get(first.id) == first
        assert await index.unfinished() == (first,)
        assert await index.finish(first.id, RecordingState.FINISHED, end, 22_500_000_000)
        assert not await index.finish(first.id, RecordingState.LOST, end, 0)
    async with database.reading() as tx:
        index = RecordingRepository(tx)
        done = replace(first, state=RecordingState.FINISHED, ended_at=end, bytes=22_500_000_000)
        assert await index.get(first.id) == done
        assert await index.unfinished() == ()
        assert await index.total_bytes() == 22_500_000_000


async def test_finding_by_time_and_by_site(database: Database) -> None:
    async with database.transaction() as tx:
        index = RecordingRepository(tx)
        for number in (1, 2, 3):
            await index.open(recording(number, "guangxi" if number == 2 else "nanning"))
            end = NOON + timedelta(minutes=number + 1)
            await index.finish(recording(number).id, RecordingState.FINISHED, end, number)
        await index.open(recording(4))
    async with database.reading() as tx:
        index = RecordingRepository(tx)
        found = await index.of_subject(
            RecordingKind.CAMERA,
            recording(1).subject,
            NOON + timedelta(minutes=2.5),
            NOON + timedelta(minutes=9),
        )
        assert [one.id for one in found] == [recording(n).id for n in (2, 3, 4)]
        assert [one.id for one in await index.in_sites(["nanning"])] == [recording(n).id for n in (4, 3, 1)]
        assert await index.in_sites([]) == ()
        old = await index.older_than(NOON + timedelta(minutes=3, seconds=1))
        assert [one.id for one in old] == [recording(n).id for n in (1, 2)]
        assert [one.id for one in await index.oldest(2)] == [recording(n).id for n in (1, 2)]


async def test_an_open_recording_is_not_removed(database: Database) -> None:
    async with database.transaction() as tx:
        index = RecordingRepository(tx)
        await index.open(recording(1))
        assert not await index.remove(recording(1).id)
        await index.finish(recording(1).id, RecordingState.MENDED, NOON + timedelta(minutes=2), 7)
        assert await index.remove(recording(1).id)
        assert await index.get(recording(1).id) is None


async def test_one_path_is_one_recording(database: Database) -> None:
    async with database.transaction() as tx:
        await RecordingRepository(tx).open(recording(1))
    async with database.transaction() as tx:
        with pytest.raises(IntegrityError):
            await RecordingRepository(tx).open(replace(recording(2), path=recording(1).path))
        await tx.rollback()
