"""Violations and their review, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from foundation.database import Database
from foundation.repositories.jobs import JobRepository
from foundation.repositories.violations import (
    CLIP_JOB,
    ClipState,
    Review,
    ReviewConflict,
    Violation,
    ViolationFilter,
    ViolationRepository,
    ViolationState,
    clip_key,
)
from foundation.schema import JobRow

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BOX = ("person", 0.9, 0.1, 0.2, 0.3, 0.4)


def violation(number: int, site: str = "nanning", **changes: object) -> Violation:
    made = Violation(
        id=f"{number:032x}",
        camera_id="gate",
        camera_name="大门",
        site_id=site,
        kind="person-in-zone",
        rule={"id": "r1", "kind": "person-in-zone", "zone": [[0, 0], [1, 0], [1, 1]], "parameters": {"n": 3}},
        started_at=NOON + timedelta(seconds=number // 2),
        model={"name": "nanodet", "sha256": "ab" * 32},
        score=0.9,
        boxes=(BOX,),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # the tests name its own fields


async def test_it_comes_back_as_it_was_written(database: Database) -> None:
    async with database.transaction() as tx:
        await ViolationRepository(tx).add(violation(1))
    async with database.reading() as tx:
        assert await ViolationRepository(tx).get(violation(1).id) == violation(1)
        assert await ViolationRepository(tx).get("0") is None


async def test_evidence_is_written_once(database: Database) -> None:
    first = violation(1).id
    async with database.transaction() as tx:
        rows = ViolationRepository(tx)
        await rows.add(violation(1))
        assert await rows.set_snapshot(first, None, None, "the disk is full")
        assert await rows.set_snapshot(first, "a.jpg", "aa" * 32)
        assert not await rows.set_snapshot(first, "b.jpg", "bb" * 32)
        assert await rows.set_clip(first, ClipState.MISSING, None, None, "the camera was gone")
        assert await rows.set_clip(first, ClipState.PARTIAL, "a.mp4", "cc" * 32, "2 s are missing")
        assert not await rows.set_clip(first, ClipState.MISSING, None, None, "later")
        assert await rows.finish(first, NOON)
        assert not await rows.finish(first, NOON + timedelta(hours=1))
        assert not await rows.set_clip("0", ClipState.MISSING, None, None)
        found = await rows.get(first)
    assert found == replace(
        violation(1),
        snapshot_path="a.jpg",
        snapshot_sha256="aa" * 32,
        clip_state=ClipState.PARTIAL,
        clip_path="a.mp4",
        clip_sha256="cc" * 32,
        clip_detail="2 s are missing",
        ended_at=NOON,
    )


async def test_pages_hold_every_violation_of_the_sites_once(database: Database) -> None:
    async with database.transaction() as tx:
        rows = ViolationRepository(tx)
        for number in range(9):
            await rows.add(violation(number, "guangxi" if number == 4 else "nanning"))
        seen: list[str] = []
        after = None
        while page := await rows.page({"nanning"}, after=after, limit=3):
            seen += [found.id for found in page]
            after = (page[-1].started_at, page[-1].id)
        assert seen == [violation(number).id for number in (8, 7, 6, 5, 3, 2, 1, 0)]
        assert await rows.page(()) == ()


async def test_filters(database: Database) -> None:
    async with database.transaction() as tx:
        rows = ViolationRepository(tx)
        await rows.add(violation(2))
        await rows.add(violation(4, kind="black", camera_id="yard"))
        await rows.add(violation(6, state=ViolationState.CLAIMED, claimed_by="wei"))

        async def found(wanted: ViolationFilter) -> list[int]:
            return [int(one.id, 16) for one in await rows.page({"nanning"}, wanted)]

        assert await found(ViolationFilter(kind="black")) == [4]
        assert await found(ViolationFilter(camera_id="gate")) == [6, 2]
        assert await found(ViolationFilter(state=ViolationState.OPEN)) == [4, 2]
        span = ViolationFilter(since=NOON + timedelta(seconds=1), until=NOON + timedelta(seconds=3))
        assert await found(span) == [4, 2]
        summary = await rows.summary({"nanning"}, NOON + timedelta(seconds=2))
        assert (summary.open, summary.claimed, summary.today) == (2, 1, 2)
        assert summary.by_kind == {"black": 1, "person-in-zone": 2}
        assert (await rows.summary({"guangxi"}, NOON)).open == 0


async def test_a_review_from_claim_to_decision(database: Database) -> None:
    first = violation(1).id
    async with database.transaction() as tx:
        rows = ViolationRepository(tx)
        await rows.add(violation(1))
        claimed = await rows.review(first, Review.CLAIM, "wei", 1, NOON)
        assert (claimed.state, claimed.claimed_by, claimed.version) == (ViolationState.CLAIMED, "wei", 2)
        with pytest.raises(ReviewConflict, match="claimed by wei"):
            await rows.review(first, Review.CLAIM, "liu", 2, NOON)
        with pytest.raises(ReviewConflict, match="claimed by wei"):
            await rows.review(first, Review.CONFIRM, "liu", 2, NOON)
        with pytest.raises(ReviewConflict, match="already claimed by you"):
            await rows.review(first, Review.CLAIM, "wei", 2, NOON)
        with pytest.raises(ReviewConflict, match="version 2, not 1"):
            await rows.review(first, Review.CONFIRM, "wei", 1, NOON)
        commented = await rows.review(first, Review.COMMENT, "liu", 2, NOON, "我也看到了")
        assert commented == claimed
        freed = await rows.review(first, Review.RELEASE, "wei", 2, NOON)
        assert (freed.state, freed.claimed_by, freed.claimed_at) == (ViolationState.OPEN, None, None)
        with pytest.raises(ReviewConflict, match="not claimed by anybody"):
            await rows.review(first, Review.RELEASE, "wei", 3, NOON)
        done = await rows.review(first, Review.CONFIRM, "liu", 3, NOON, "no helmet")
        assert (done.state, done.decided_by, done.claimed_by) == (ViolationState.CONFIRMED, "liu", "liu")
        for step in (Review.DISMISS, Review.CLAIM, Review.RELEASE):
            with pytest.raises(ReviewConflict, match="confirmed by liu"):
                await rows.review(first, step, "liu", 4, NOON)
        log = [(entry.actor, entry.event, entry.comment) for entry in await rows.log(first)]
        with pytest.raises(LookupError):
            await rows.review("0", Review.CLAIM, "wei", 1, NOON)
    assert log == [
        ("wei", "claimed", ""),
        ("liu", "comment", "我也看到了"),
        ("wei", "released", ""),
        ("liu", "confirmed", "no helmet"),
    ]


async def test_clips_whose_job_is_gone_are_found(database: Database) -> None:
    async with database.transaction() as tx:
        rows, jobs = ViolationRepository(tx), JobRepository(tx)
        for number in (1, 2, 3, 4):
            await rows.add(violation(number))
        for number in (1, 2):
            subject = violation(number).id
            await jobs.enqueue(CLIP_JOB, {"violation_id": subject}, NOON, key=clip_key(subject))
        await tx.execute(
            update(JobRow)
            .where(JobRow.key == clip_key(violation(2).id))
            .values(state="dead", finished_at=NOON)
        )
        await rows.set_clip(violation(4).id, ClipState.MISSING, None, None, "gone")
        assert await rows.without_clip_job() == (violation(2).id, violation(3).id)


async def test_the_unfinished_of_a_camera(database: Database) -> None:
    async with database.transaction() as tx:
        rows = ViolationRepository(tx)
        await rows.add(violation(1))
        await rows.add(violation(2, ended_at=NOON))
        await rows.add(violation(3, camera_id="yard"))
        assert [found.id for found in await rows.unfinished("gate")] == [violation(1).id]
        assert len(await rows.unfinished()) == 2
