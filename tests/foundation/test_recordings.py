"""The index of recordings, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from foundation.database import Database
from foundation.repositories.cameras import Camera, CameraRepository
from foundation.repositories.conferences import Conference, ConferenceRepository
from foundation.repositories.recording_orders import GivenOrder, OrderRepository, SubjectRepository
from foundation.repositories.recordings import (
    Recording,
    RecordingFilter,
    RecordingKind,
    RecordingRepository,
    RecordingState,
    RecordingSubject,
)
from foundation.schema import RuleRow

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
        first = replace(first, started_at=first.started_at - timedelta(seconds=0.9))
        await index.set_back(first.id, first.started_at)
        assert await index.get(first.id) == first
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
        assert not await index.begin_removal(recording(1).id)
        assert not await index.remove(recording(1).id)
        await index.finish(recording(1).id, RecordingState.MENDED, NOON + timedelta(minutes=2), 7)
        assert not await index.remove(recording(1).id), "its file is there"
        assert await index.begin_removal(recording(1).id)
        assert await index.get(recording(1).id) is None
        assert await index.remove(recording(1).id)
        assert await index.get(recording(1).id) is None


async def test_one_path_is_one_recording(database: Database) -> None:
    async with database.transaction() as tx:
        await RecordingRepository(tx).open(recording(1))
    async with database.transaction() as tx:
        with pytest.raises(IntegrityError):
            await RecordingRepository(tx).open(replace(recording(2), path=recording(1).path))
        await tx.rollback()


async def test_pages_follow_one_another_whatever_was_recorded_at_the_same_time(database: Database) -> None:
    """Newest first, by id within one instant, nothing twice and nothing left out."""
    same = NOON + timedelta(minutes=3)
    rows = [replace(recording(n), started_at=same if n < 4 else NOON) for n in range(1, 7)]
    async with database.transaction() as tx:
        for row in rows:
            await RecordingRepository(tx).open(row)
    seen: list[Recording] = []
    after = None
    async with database.reading() as tx:
        while page := await RecordingRepository(tx).page(["nanning"], after=after, limit=2):
            seen += page
            after = (page[-1].started_at, page[-1].id)
        assert await RecordingRepository(tx).page(["guangxi"]) == ()
        assert await RecordingRepository(tx).page([]) == ()
        many = [f"site-{n}" for n in range(40_000)]
        assert len(await RecordingRepository(tx).page([*many, "nanning"])) == 6
        wanted = RecordingFilter(RecordingKind.CAMERA, since=NOON + timedelta(minutes=2))
        open_ended = await RecordingRepository(tx).page(["nanning"], wanted)
        until = RecordingFilter(until=NOON + timedelta(minutes=2))
        earlier = await RecordingRepository(tx).page(["nanning"], until)
    assert [one.id for one in seen] == [one.id for one in sorted(rows, key=_order, reverse=True)]
    assert len(open_ended) == 6  # what is still being written may reach any time
    assert {one.id for one in earlier} == {one.id for one in rows[3:]}


def _order(one: Recording) -> tuple[datetime, str]:
    return one.started_at, one.id


async def test_subjects_are_summed_by_site(database: Database) -> None:
    async with database.transaction() as tx:
        index = RecordingRepository(tx)
        for number in (1, 2, 3):
            await index.open(recording(number))
            end = NOON + timedelta(minutes=number + 1)
            await index.finish(recording(number).id, RecordingState.FINISHED, end, 1000)
    async with database.reading() as tx:
        (found,) = await RecordingRepository(tx).subjects(["nanning"])
        assert await RecordingRepository(tx).subjects(["guangxi"]) == ()
    assert found == RecordingSubject(
        RecordingKind.CAMERA,
        "34020000001320000001",
        "nanning",
        NOON + timedelta(minutes=1),
        NOON + timedelta(minutes=4),
        3000,
    )


async def test_orders_rest_while_their_subject_cannot_be_recorded(database: Database) -> None:
    """A camera that is switched off or gone, a conference that is over."""
    camera = Camera("gate", "nanning", "东门", "rtsp://10.1.2.3/1", NOON)
    meeting = Conference("c" * 32, "4711", "例会", "nanning", created_at=NOON)
    gate = GivenOrder(RecordingKind.CAMERA, "gate", "nanning", "wang", NOON)
    minutes = GivenOrder(RecordingKind.CONFERENCE, "c" * 32, "nanning", "wang", NOON)
    async with database.transaction() as tx:
        orders = OrderRepository(tx)
        assert await orders.give(gate)
        assert not await orders.give(replace(gate, ordered_by="liu"))
        assert await orders.give(minutes)
        assert await orders.in_force() == ()
        await CameraRepository(tx).add(camera)
        await ConferenceRepository(tx).add(meeting)
        assert await orders.in_force() == (gate, minutes)
        names = await SubjectRepository(tx).names([(one.kind, one.subject) for one in (gate, minutes)])
        assert names == {(RecordingKind.CAMERA, "gate"): "东门", (RecordingKind.CONFERENCE, "c" * 32): "例会"}
        await CameraRepository(tx).change(replace(camera, enabled=False))
        assert await orders.in_force() == (minutes,)
        assert await orders.end(RecordingKind.CONFERENCE, "c" * 32)
        assert not await orders.end(RecordingKind.CONFERENCE, "c" * 32)
        assert await orders.all() == (gate,)


async def test_cameras_with_enabled_rules_are_kept(database: Database) -> None:
    async with database.transaction() as tx:
        for name in ("gate", "yard"):
            await CameraRepository(tx).add(Camera(name, "nanning", name, "rtsp://10.1.2.3/1", NOON))
        for number, (name, enabled) in enumerate((("gate", True), ("gate", True), ("yard", False))):
            tx.add(
                RuleRow(
                    id=f"{number:032x}",
                    camera_id=name,
                    kind="black",
                    name="Black",
                    zone=[],
                    parameters={},
                    schedule=[],
                    enabled=enabled,
                    created_at=NOON,
                )
            )
        await tx.flush()
        assert await SubjectRepository(tx).with_rules() == ("gate",)
