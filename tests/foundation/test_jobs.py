"""Jobs are done once by somebody, again after a failure, and by another when a worker is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from foundation.clock import FakeClock, SystemClock
from foundation.database import Database
from foundation.event_bus import InProcessBus
from foundation.events import BusReconnected
from foundation.jobs import Job, JobQueue, JobRefused, JobState, JobWorker
from foundation.migration import migrate
from foundation.repositories.jobs import JobRepository
from tests.peers.postgresql import PostgresqlCluster
from tests.peers.requirement import requires
from tests.peers.waiting import until, until_true

LEASE = timedelta(seconds=60)


async def enqueue(
    database: Database, clock: FakeClock, *, count: int = 1, max_attempts: int = 5
) -> list[str]:
    async with database.transaction() as tx:
        jobs = JobRepository(tx)
        return [
            await jobs.enqueue("clip", {"n": number}, clock.now(), max_attempts=max_attempts)
            for number in range(count)
        ]


async def claim(database: Database, clock: FakeClock, worker: str = "w", limit: int = 1) -> tuple[Job, ...]:
    async with database.transaction() as tx:
        return await JobRepository(tx).claim(["clip"], worker, clock.now(), LEASE, limit)


async def get(database: Database, job_id: str) -> Job:
    async with database.reading() as tx:
        job = await JobRepository(tx).get(job_id)
    assert job is not None
    return job


@asynccontextmanager
async def running(worker: JobWorker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def finished(database: Database, job_id: str, state: JobState) -> Job:
    return await until(
        lambda: get(database, job_id), lambda job: job.state is state, f"the job to be {state}", 10, 0.01
    )


async def test_each_job_goes_to_one_worker(database: Database, clock: FakeClock) -> None:
    """Claimed at once through several engines, as several processes would."""
    ids = await enqueue(database, clock, count=30)
    others = [Database(database.url.render_as_string(hide_password=False), busy_timeout=20) for _ in range(3)]
    claims = (claim(each, clock, f"w{n}", 3) for n in range(5) for each in (database, *others))
    claimed = [job.id for jobs in await asyncio.gather(*claims) for job in jobs]
    claimed += [job.id for job in await claim(database, clock, "last", 30)]
    assert sorted(claimed) == sorted(ids)
    assert await claim(database, clock) == ()
    for other in others:
        await other.aclose()


@requires("postgresql")
async def test_a_claim_in_progress_holds_no_other_up(postgresql: PostgresqlCluster, clock: FakeClock) -> None:
    url = postgresql.url(postgresql.create_database())
    await migrate(url)
    database, other = Database(url), Database(url, busy_timeout=0.5)
    first, second = await enqueue(database, clock, count=2)
    async with database.transaction() as tx:
        claimed = await JobRepository(tx).claim(["clip"], "slow", clock.now(), LEASE)
        quick = await claim(other, clock, limit=2)
        assert {job.id for job in (*claimed, *quick)} == {first, second}
        assert len(quick) == 1
    await database.aclose()
    await other.aclose()


async def test_oldest_first_and_only_what_is_due_and_asked_for(database: Database, clock: FakeClock) -> None:
    async with database.transaction() as tx:
        jobs = JobRepository(tx)
        late = await jobs.enqueue("clip", {}, clock.now(), delay=timedelta(seconds=10))
        second = await jobs.enqueue("clip", {}, clock.now() - timedelta(seconds=1))
        first = await jobs.enqueue("clip", {}, clock.now() - timedelta(seconds=2))
        await jobs.enqueue("other", {}, clock.now())
        assert await jobs.next_due(["clip"]) == clock.now() - timedelta(seconds=2)
    assert [job.id for job in await claim(database, clock, limit=9)] == [first, second]
    clock.advance(10)
    assert [job.id for job in await claim(database, clock, limit=9)] == [late]


async def test_a_key_keeps_one_job_open(database: Database, clock: FakeClock) -> None:
    async def put() -> str:
        async with database.transaction() as tx:
            return await JobRepository(tx).enqueue("clip", {}, clock.now(), key="clip:7")

    first = await put()
    assert await put() == first
    (job,) = await claim(database, clock)
    assert await put() == first
    async with database.transaction() as tx:
        assert await JobRepository(tx).complete(job, clock.now())
    assert await put() != first


async def test_lease_that_ran_out_gives_the_job_to_another(database: Database, clock: FakeClock) -> None:
    await enqueue(database, clock)
    (lost,) = await claim(database, clock, "first")
    clock.advance(59)
    assert await claim(database, clock, "second") == ()
    async with database.transaction() as tx:
        assert await JobRepository(tx).extend(lost, clock.now(), LEASE)
    clock.advance(59)
    assert await claim(database, clock, "second") == ()
    clock.advance(1)
    (job,) = await claim(database, clock, "second")
    assert (job.id, job.worker, job.attempts) == (lost.id, "second", 2)
    async with database.transaction() as tx:
        jobs = JobRepository(tx)
        assert not await jobs.extend(lost, clock.now(), LEASE)
        assert not await jobs.complete(lost, clock.now())
        assert not await jobs.fail(lost, clock.now(), "late", None)
        assert await jobs.complete(job, clock.now())
    assert (await get(database, job.id)).state is JobState.DONE


async def test_failures_come_again_and_the_last_is_death(database: Database, clock: FakeClock) -> None:
    (job_id,) = await enqueue(database, clock, max_attempts=2)
    (job,) = await claim(database, clock)
    async with database.transaction() as tx:
        assert await JobRepository(tx).fail(job, clock.now(), "disk full", timedelta(seconds=5))
    assert await claim(database, clock) == ()
    clock.advance(5)
    (job,) = await claim(database, clock)
    async with database.transaction() as tx:
        assert await JobRepository(tx).fail(job, clock.now(), "disk full", timedelta(seconds=5))
    clock.advance(3600)
    assert await claim(database, clock) == ()
    dead = await get(database, job_id)
    assert (dead.state, dead.attempts, dead.last_error) == (JobState.DEAD, 2, "disk full")


async def test_worker_that_dies_each_time_makes_the_job_dead(database: Database, clock: FakeClock) -> None:
    (job_id,) = await enqueue(database, clock, max_attempts=2)
    for _ in range(2):
        assert len(await claim(database, clock)) == 1
        clock.advance(60)
    assert await claim(database, clock) == ()
    dead = await get(database, job_id)
    assert (dead.state, dead.last_error) == (JobState.DEAD, "the lease ran out: worker gone")


async def test_counts_and_clearing_away(database: Database, clock: FakeClock) -> None:
    await enqueue(database, clock, count=3)
    jobs_claimed = await claim(database, clock, limit=2)
    async with database.transaction() as tx:
        jobs = JobRepository(tx)
        await jobs.complete(jobs_claimed[0], clock.now())
        await jobs.fail(jobs_claimed[1], clock.now(), "no such clip", None)
        assert await jobs.count("clip") == {
            JobState.READY: 1,
            JobState.LEASED: 0,
            JobState.DONE: 1,
            JobState.DEAD: 1,
        }
        assert await jobs.remove_finished(clock.now()) == 0
        assert await jobs.remove_finished(clock.now() + timedelta(seconds=1)) == 1
        assert (await jobs.count())[JobState.DEAD] == 1


async def test_worker_is_woken_and_does_the_job_once(database: Database) -> None:
    done: list[object] = []

    async def clip(job: Job) -> None:
        done.append(job.payload["violation"])

    bus, clock = InProcessBus(), SystemClock()
    queue = JobQueue(database, bus, clock)
    early = await queue.enqueue("clip", {"violation": "before the start"})
    async with running(JobWorker(database, bus, clock, {"clip": clip}, name="w", rescan=1000)):
        await finished(database, early, JobState.DONE)
        later = await queue.enqueue("clip", {"violation": "woken"})
        await finished(database, later, JobState.DONE)
    assert done == ["before the start", "woken"]


async def test_lost_wake_up_costs_latency_only(database: Database) -> None:
    async def clip(_job: Job) -> None:
        return

    clock, bus = SystemClock(), InProcessBus()
    silent = JobQueue(database, InProcessBus(), clock)
    async with running(JobWorker(database, bus, clock, {"clip": clip}, name="w", rescan=0.2)):
        await finished(database, await silent.enqueue("clip", {}), JobState.DONE)
    async with running(JobWorker(database, bus, clock, {"clip": clip}, name="w", rescan=1000)):
        await asyncio.sleep(0.05)
        job_id = await silent.enqueue("clip", {})
        bus.publish(BusReconnected())
        await finished(database, job_id, JobState.DONE)


async def test_failing_handler_is_tried_again_and_a_refusal_is_final(database: Database) -> None:
    tries: list[int] = []

    async def clip(job: Job) -> None:
        tries.append(job.attempts)
        if job.attempts < 3:
            raise OSError("disk full")

    async def odd(_job: Job) -> None:
        raise JobRefused("the camera is gone")

    bus, clock = InProcessBus(), SystemClock()
    queue = JobQueue(database, bus, clock)
    worker = JobWorker(database, bus, clock, {"clip": clip, "odd": odd}, name="w", retry=0.01, concurrency=2)
    async with running(worker):
        job = await finished(database, await queue.enqueue("clip", {}), JobState.DONE)
        refused = await finished(database, await queue.enqueue("odd", {}), JobState.DEAD)
    assert tries == [1, 2, 3]
    assert job.last_error == "OSError: disk full"
    assert (refused.attempts, refused.last_error) == (1, "JobRefused: the camera is gone")


async def test_long_work_keeps_its_lease_and_lost_work_is_stopped(database: Database) -> None:
    started, cancelled, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def clip(_job: Job) -> None:
        started.set()
        try:
            await go.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    bus, clock = InProcessBus(), SystemClock()
    job_id = await JobQueue(database, bus, clock).enqueue("clip", {})
    async with running(JobWorker(database, bus, clock, {"clip": clip}, name="w", lease=0.3)):
        async with asyncio.timeout(10):
            await started.wait()
            claimed = await get(database, job_id)
        extended = await until(
            lambda: get(database, job_id),
            lambda job: job.leased_until != claimed.leased_until,
            "the lease to be extended",
            10,
            0.01,
        )
        assert claimed.leased_until is not None
        assert extended.leased_until is not None
        assert extended.leased_until > claimed.leased_until
        assert extended.lease == claimed.lease
        async with database.transaction() as tx:
            (stolen,) = await JobRepository(tx).claim(
                ["clip"], "thief", clock.now() + timedelta(hours=1), timedelta(hours=2)
            )
        async with asyncio.timeout(10):
            await cancelled.wait()
    assert (await get(database, job_id)).lease == stolen.lease


async def test_no_more_at_once_than_allowed(database: Database) -> None:
    now_running, most = 0, 0
    release = asyncio.Event()

    async def clip(_job: Job) -> None:
        nonlocal now_running, most
        now_running += 1
        most = max(most, now_running)
        await release.wait()
        now_running -= 1

    bus, clock = InProcessBus(), SystemClock()
    queue = JobQueue(database, bus, clock)
    ids = [await queue.enqueue("clip", {"n": number}) for number in range(6)]
    async with running(JobWorker(database, bus, clock, {"clip": clip}, name="w", concurrency=2)):
        await until_true(lambda: now_running == 2, "two jobs at once", 10)
        release.set()
        for job_id in ids:
            await finished(database, job_id, JobState.DONE)
    assert most == 2


async def test_a_wall_clock_that_was_set_back_holds_no_job_up(database: Database, clock: FakeClock) -> None:
    clock.advance(3600)
    (job_id,) = await enqueue(database, clock)
    clock._start -= timedelta(hours=1)
    (job,) = await claim(database, clock)
    assert job.id == job_id


@pytest.mark.parametrize("max_attempts", [1, 5])
async def test_what_a_worker_has_in_hand_it_does_not_claim_again(
    database: Database, clock: FakeClock, max_attempts: int
) -> None:
    """A wall clock that is set forward ends every lease, and the holders are well all the same."""
    begun: list[str] = []
    go = asyncio.Event()

    async def clip(job: Job) -> None:
        begun.append(job.id)
        await go.wait()

    bus = InProcessBus()
    queue = JobQueue(database, bus, clock)
    first = await queue.enqueue("clip", {}, max_attempts=max_attempts)
    async with running(JobWorker(database, bus, clock, {"clip": clip}, name="w", concurrency=2)):
        await until_true(lambda: begun == [first], "the first job", 10)
        clock._start += timedelta(hours=1)
        second = await queue.enqueue("clip", {})
        await until_true(lambda: len(begun) == 2, "another job", 10)
        assert begun == [first, second]
        go.set()
        for job_id in (first, second):
            assert (await finished(database, job_id, JobState.DONE)).attempts == 1


async def test_nothing_is_due_of_what_is_in_hand(database: Database, clock: FakeClock) -> None:
    first, second = await enqueue(database, clock, count=2)
    await claim(database, clock)
    clock.advance(3600)
    async with database.reading() as tx:
        due = await JobRepository(tx).next_due(["clip"], {first, second})
    assert due is None, "else a worker would look again without a pause"
