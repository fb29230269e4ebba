"""Work that must not be forgotten: rows with leases, and a worker that the bus only wakes.

    jobs = JobQueue(database, bus, clock)
    await jobs.enqueue("cut-clip", {"violation": id}, key=f"clip:{id}")     # committed, then announced
    async with database.transaction() as tx:                    # or together with other rows:
        await JobRepository(tx).enqueue("cut-clip", {...}, clock.now())
    jobs.announce("cut-clip")

    worker = JobWorker(database, bus, clock, {"cut-clip": cut_clip}, name="vision-0")
    await worker.run()                                          # until cancelled

A handler is `async def handler(job: Job) -> None`. Returning completes the job, raising fails it (again
after a growing delay, dead after `max_attempts`), raising `JobRefused` makes it dead at once. A handler may
run twice for one job when a worker died or was cut off, so its work can be repeated; it is cancelled when its
lease is lost. The worker looks at the rows at its start, when woken, when the next job is due and every
`rescan` seconds: a lost event costs latency only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from foundation.clock import Clock
from foundation.database import Database, DatabaseBusy, DatabaseUnavailable
from foundation.event_bus import EventBus
from foundation.events import BusReconnected, Event
from foundation.repositories.jobs import Job, JobRepository, JobState
from foundation.tasks import TaskScope

__all__ = ["Job", "JobEnqueued", "JobHandler", "JobQueue", "JobRefused", "JobState", "JobWorker"]

_log = structlog.get_logger("jobs")

JobHandler = Callable[[Job], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JobEnqueued(Event):
    """There is work of this kind; the row says what."""

    kind: str


class JobRefused(Exception):
    """The job can never be done (its subject is gone, its payload makes no sense): no more attempts."""


class JobQueue:
    """Where work is put in."""

    def __init__(self, database: Database, bus: EventBus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock

    async def enqueue(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        key: str | None = None,
        delay: timedelta = timedelta(0),
        max_attempts: int = 5,
    ) -> str:
        """Store the job, then wake its workers; returns its id. One open job for each `key`."""
        async with self._database.transaction() as tx:
            job_id = await JobRepository(tx).enqueue(
                kind, payload, self._clock.now(), key=key, delay=delay, max_attempts=max_attempts
            )
        self.announce(kind)
        return job_id

    def announce(self, kind: str) -> None:
        """Wake the workers of this kind, after the transaction that enqueued was committed."""
        self._bus.publish(JobEnqueued(kind))


class JobWorker:
    """Works off jobs of the kinds it has handlers for, at most `concurrency` at once.

    `lease`: seconds a job is the worker's without a sign of life (one is given every third of it).
    `retry`: delay in seconds after the first failure, doubling with each up to an hour.
    """

    def __init__(
        self,
        database: Database,
        bus: EventBus,
        clock: Clock,
        handlers: Mapping[str, JobHandler],
        *,
        name: str,
        concurrency: int = 1,
        lease: float = 60.0,
        rescan: float = 30.0,
        retry: float = 5.0,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._handlers = dict(handlers)
        self._name = name
        self._concurrency = concurrency
        self._lease = timedelta(seconds=lease)
        self._rescan = rescan
        self._retry = retry
        self._running: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; what was being worked on then is another worker's when the lease runs out."""
        async with (
            self._bus.subscribe(JobEnqueued, BusReconnected) as events,
            TaskScope(f"jobs.{self._name}") as scope,
        ):
            scope.spawn("wake", self._listen(events))
            while True:
                self._wake.clear()
                wait = self._rescan
                try:
                    wait = await self._start_due(scope)
                except (DatabaseBusy, DatabaseUnavailable) as error:
                    _log.warning("jobs cannot be looked up now", worker=self._name, reason=str(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    async def _listen(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            match event:
                case JobEnqueued(kind=kind) if kind not in self._handlers:
                    continue
                case JobEnqueued() | BusReconnected():
                    self._wake.set()

    async def _start_due(self, scope: TaskScope) -> float:
        """Claim what is due and there is room for; returns the seconds to sleep unless woken.

        What runs here is not claimed, whatever its row says: a step of the wall clock, or a database that was
        busy, ends leases whose holder is well.
        """
        room = self._concurrency - len(self._running)
        if not room:
            return self._rescan
        async with self._database.reading() as tx:
            next_due = await JobRepository(tx).next_due(self._handlers, self._running)
        if next_due is None or next_due > self._clock.now():  # then nobody else has to wait for us to look
            return self._until(next_due)
        async with self._database.transaction() as tx:
            jobs = JobRepository(tx)
            now, mine = self._clock.now(), self._running
            claimed = await jobs.claim(self._handlers, self._name, now, self._lease, room, mine)
            next_due = await jobs.next_due(self._handlers, mine | {job.id for job in claimed})
        for job in claimed:
            self._running.add(job.id)
            scope.spawn(job.kind, self._work(job))
        return self._rescan if len(claimed) == room else self._until(next_due)

    def _until(self, due: datetime | None) -> float:
        if due is None:
            return self._rescan
        return min(self._rescan, max(0.0, (due - self._clock.now()).total_seconds()))

    async def _work(self, job: Job) -> None:
        try:
            with structlog.contextvars.bound_contextvars(job=job.id, kind=job.kind):
                await self._attempt(job)
        except (DatabaseBusy, DatabaseUnavailable) as error:
            _log.warning("a job's end was not recorded; it will run again", job=job.id, reason=str(error))
        finally:
            self._running.discard(job.id)
            self._wake.set()

    async def _attempt(self, job: Job) -> None:
        handler = asyncio.ensure_future(self._handlers[job.kind](job))
        heartbeat = asyncio.create_task(self._keep(job, handler), name=f"{self._name}.heartbeat")
        failure: Exception | None = None
        try:
            await handler
        except asyncio.CancelledError:
            if not heartbeat.done():  # we are being stopped; otherwise the heartbeat found the lease gone
                raise
            _log.warning("a job's lease was lost; another worker has it", job=job.id)
            return
        except Exception as error:
            failure = error
        finally:
            handler.cancel()
            heartbeat.cancel()
        await self._record(job, failure)

    async def _keep(self, job: Job, handler: asyncio.Future[None]) -> None:
        """Extend the lease while the handler runs; cancel it when the job is no longer ours."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            with suppress(DatabaseBusy, DatabaseUnavailable):
                async with self._database.transaction() as tx:
                    ours = await JobRepository(tx).extend(job, self._clock.now(), self._lease)
                if not ours:
                    handler.cancel()
                    return

    async def _record(self, job: Job, failure: Exception | None) -> None:
        async with self._database.transaction() as tx:
            jobs, now = JobRepository(tx), self._clock.now()
            if failure is None:
                await jobs.complete(job, now)
                return
            delay = None
            if not isinstance(failure, JobRefused):
                delay = timedelta(seconds=min(3600.0, self._retry * 2.0 ** (job.attempts - 1)))
            text = f"{type(failure).__name__}: {failure}"
            await jobs.fail(job, now, text, delay)
        _log.warning("a job failed", job=job.id, attempt=job.attempts, of=job.max_attempts, error=text)
