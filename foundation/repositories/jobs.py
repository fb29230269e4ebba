"""Jobs as rows with leases.

    JobRepository(tx): enqueue, claim, extend, complete, fail, get, dead, count, next_run_at, remove_finished

A job is ready, leased to one worker for a while, then done, ready again after a failure, or dead after
`max_attempts`. Whoever lets a lease run out has failed that attempt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update

from foundation.database import Transaction
from foundation.schema import JobRow, new_id

__all__ = ["Job", "JobRepository", "JobState"]

_LONGEST_ERROR = 2000


class JobState(StrEnum):
    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Job:
    """`lease` proves to the repository that the holder still has the job; None while nobody has."""

    id: str
    kind: str
    payload: dict[str, Any] = field(hash=False)
    state: JobState
    attempts: int
    max_attempts: int
    run_at: datetime
    key: str | None = None
    lease: str | None = None
    worker: str | None = None
    leased_until: datetime | None = None
    last_error: str | None = None


class JobRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def enqueue(
        self,
        kind: str,
        payload: dict[str, Any],
        now: datetime,
        *,
        key: str | None = None,
        delay: timedelta = timedelta(0),
        max_attempts: int = 5,
    ) -> str:
        """Add a job; returns its id, or that of the open job with the same `key`."""
        if key is not None:
            open_job = await self._tx.scalar(
                select(JobRow.id).where(
                    JobRow.key == key, JobRow.state.in_([JobState.READY, JobState.LEASED])
                )
            )
            if open_job is not None:
                return open_job
        row = JobRow(
            id=new_id(),
            kind=kind,
            key=key,
            payload=payload,
            state=JobState.READY,
            attempts=0,
            max_attempts=max_attempts,
            run_at=now + delay,
            created_at=now,
        )
        self._tx.add(row)
        await self._tx.flush()
        return row.id

    async def claim(
        self,
        kinds: Collection[str],
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int = 1,
        besides: Collection[str] = (),
    ) -> tuple[Job, ...]:
        """Lease up to `limit` due jobs, oldest first; each goes to one worker only.

        Jobs whose lease ran out are due again, or dead when that was their last attempt; not those with the
        ids `besides`, which the worker itself has in hand.
        """
        lapsed = and_(JobRow.state == JobState.LEASED, JobRow.leased_until <= now)
        expired = and_(lapsed, JobRow.id.not_in(besides))
        await self._tx.execute(
            update(JobRow)
            .where(expired, JobRow.attempts >= JobRow.max_attempts)
            .values(
                state=JobState.DEAD, lease=None, finished_at=now, last_error="the lease ran out: worker gone"
            )
            .execution_options(synchronize_session=False)
        )
        # A row from the future was written before the wall clock was set back: it would wait for ever.
        ready = or_(JobRow.run_at <= now, JobRow.created_at > now)
        waiting = and_(JobRow.state == JobState.READY, ready, JobRow.id.not_in(besides))
        due = or_(waiting, expired)
        candidates = await self._tx.scalars(
            select(JobRow.id)
            .where(JobRow.kind.in_(kinds), due)
            .order_by(JobRow.run_at, JobRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True)  # SQLite has no row locks: there the condition below decides
        )
        claimed: list[Job] = []
        for job_id in candidates.all():
            rows = await self._tx.scalars(
                update(JobRow)
                .where(JobRow.id == job_id, due)
                .values(
                    state=JobState.LEASED,
                    attempts=JobRow.attempts + 1,
                    lease=new_id(),
                    worker=worker,
                    leased_until=now + lease,
                )
                .returning(JobRow)
                .execution_options(synchronize_session=False, populate_existing=True)
            )
            claimed.extend(_job(row) for row in rows)
        return tuple(claimed)

    async def extend(self, job: Job, now: datetime, lease: timedelta) -> bool:
        """Keep the job for `lease` from now; False when it is no longer the caller's."""
        return await self._as_holder(job, {"leased_until": now + lease})

    async def complete(self, job: Job, now: datetime) -> bool:
        """The work is done; False when the job is no longer the caller's."""
        values = {"state": JobState.DONE, "finished_at": now, "lease": None, "leased_until": None}
        return await self._as_holder(job, values)

    async def fail(self, job: Job, now: datetime, error: str, retry_in: timedelta | None) -> bool:
        """The attempt failed: ready again in `retry_in`, or dead (None, or no attempt left).

        False when the job is no longer the caller's.
        """
        values: dict[str, Any] = {"last_error": error[:_LONGEST_ERROR], "lease": None, "leased_until": None}
        if retry_in is None or job.attempts >= job.max_attempts:
            values |= {"state": JobState.DEAD, "finished_at": now}
        else:
            values |= {"state": JobState.READY, "run_at": now + retry_in}
        return await self._as_holder(job, values)

    async def get(self, job_id: str) -> Job | None:
        row = await self._tx.get(JobRow, job_id, populate_existing=True)
        return _job(row) if row else None

    async def dead(self, key: str) -> tuple[int, str]:
        """How many jobs of this key are dead, and what the last one died of."""
        errors = await self._tx.scalars(
            select(JobRow.last_error)
            .where(JobRow.key == key, JobRow.state == JobState.DEAD)
            .order_by(JobRow.finished_at, JobRow.id)
        )
        found = errors.all()
        return len(found), (found[-1] or "") if found else ""

    async def count(self, kind: str | None = None) -> dict[JobState, int]:
        """How many jobs there are in each state."""
        wanted = select(JobRow.state, func.count()).group_by(JobRow.state)
        if kind is not None:
            wanted = wanted.where(JobRow.kind == kind)
        found = {JobState(state): number for state, number in await self._tx.execute(wanted)}
        return {state: found.get(state, 0) for state in JobState}

    async def next_due(self, kinds: Collection[str], besides: Collection[str] = ()) -> datetime | None:
        """When the next job of these kinds becomes due (perhaps already past), but for those with the ids
        `besides`; None when none waits."""
        waiting = or_(JobRow.state == JobState.READY, JobRow.state == JobState.LEASED)
        due_at = func.coalesce(JobRow.leased_until, JobRow.run_at)
        row = await self._tx.scalar(
            select(JobRow)
            .where(JobRow.kind.in_(kinds), waiting, JobRow.id.not_in(besides))
            .order_by(due_at)
            .limit(1)
        )
        return (row.leased_until or row.run_at) if row else None

    async def remove_finished(self, before: datetime) -> int:
        """Forget jobs done before that time (dead ones stay to be looked at); returns how many."""
        old = and_(JobRow.state == JobState.DONE, JobRow.finished_at < before)
        return len((await self._tx.execute(delete(JobRow).where(old).returning(JobRow.id))).all())

    async def _as_holder(self, job: Job, values: dict[str, Any]) -> bool:
        changed = await self._tx.execute(
            update(JobRow)
            .where(JobRow.id == job.id, JobRow.lease == job.lease, JobRow.state == JobState.LEASED)
            .values(values)
            .returning(JobRow.id)
            .execution_options(synchronize_session=False)
        )
        return changed.first() is not None


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        payload=row.payload,
        state=JobState(row.state),
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        run_at=row.run_at,
        key=row.key,
        lease=row.lease,
        worker=row.worker,
        leased_until=row.leased_until,
        last_error=row.last_error,
    )
