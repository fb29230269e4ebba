"""Whole transactions on SQLite as pieces of work for two threads of their own: one writes, one reads.

    work = SqliteWork(url, busy_timeout, turn, release)
    result = await work.write(lambda connection: ...)      # what waits together is committed together
    result = await work.read(lambda connection: ...)
    await work.aclose()

`Database.write` and `Database.read` are made of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine

__all__ = ["SqliteWork", "TooMuchWork", "tune_sqlite"]

_Result = TypeVar("_Result")

MOST_WAITING = 4096
MOST_TOGETHER = 64
"""How many pieces of work share a transaction at the most: other writers want their turn too."""


class TooMuchWork(Exception):
    """More work waits than is taken on."""


class _Job(Generic[_Result]):
    """One piece of work; its outcome is told when the transaction has been committed."""

    def __init__(self, work: Callable[[Connection], _Result]) -> None:
        self._work = work
        self._result: _Result
        self._error: BaseException | None = None
        self.outcome: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()

    def do(self, connection: Connection, *, alone: bool) -> None:
        """In the thread. A fault of one among many undoes what that one did, and nothing else."""
        try:
            if alone:
                self._result = self._work(connection)
                return
            with connection.begin_nested():
                self._result = self._work(connection)
        except Exception as error:
            if alone or connection.invalidated:
                raise
            self._error = error

    def tell(self) -> None:
        if self.outcome.done():
            return  # whoever waited was cancelled
        if self._error is None:
            self.outcome.set_result(self._result)
        else:
            self.outcome.set_exception(self._error)

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class SqliteWork:
    """`turn` waits for this process's turn to write (it may raise), `release` gives it back."""

    def __init__(
        self,
        url: URL,
        busy_timeout: float,
        turn: Callable[[], Awaitable[None]],
        release: Callable[[], None],
    ) -> None:
        arguments = {"timeout": busy_timeout, "isolation_level": None}
        url = url.set(drivername="sqlite+pysqlite")
        self._engine = create_engine(url, connect_args=arguments, pool_size=2, max_overflow=0)
        tune_sqlite(self._engine)
        self._readers = self._engine.execution_options(anshi_reading=True)
        self._turn = turn
        self._release = release
        self._writing = ThreadPoolExecutor(1, "database write")
        self._reading = ThreadPoolExecutor(1, "database read")
        self._waiting: deque[_Job[Any]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Raises TooMuchWork, what `turn` raises, what SQLAlchemy raises and what `work` raises."""
        if len(self._waiting) >= MOST_WAITING:
            raise TooMuchWork(f"{MOST_WAITING} pieces of work wait to be written")
        job = _Job(work)
        self._waiting.append(job)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="database writer")
        return await job.outcome

    async def read(self, work: Callable[[Connection], _Result]) -> _Result:
        def carry_out() -> _Result:
            with self._readers.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reading, carry_out)

    async def aclose(self) -> None:
        """What was asked for is written first."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writing.shutdown()
        self._reading.shutdown()
        self._engine.dispose()

    async def _write_all(self) -> None:
        """Until nothing waits; everybody else who writes has a turn in between."""
        try:
            while self._waiting:
                await self._write_some()
        finally:
            self._writer = None

    async def _write_some(self) -> None:
        try:
            await self._turn()
        except Exception as error:
            self._fail(self._taken(len(self._waiting)), error)
            return
        jobs = self._taken(MOST_TOGETHER)
        try:
            if jobs:
                await asyncio.get_running_loop().run_in_executor(self._writing, self._carry_out, jobs)
        except Exception as error:
            self._fail(jobs, error)
        else:
            for job in jobs:
                job.tell()
        finally:
            self._release()

    def _taken(self, most: int) -> list[_Job[Any]]:
        """The next ones that somebody still waits for."""
        count = min(most, len(self._waiting))
        jobs = (self._waiting.popleft() for _ in range(count))
        return [job for job in jobs if not job.outcome.done()]

    def _fail(self, jobs: list[_Job[Any]], error: Exception) -> None:
        for job in jobs:
            job.fail(error)

    def _carry_out(self, jobs: list[_Job[Any]]) -> None:
        with self._engine.begin() as connection:
            for job in jobs:
                job.do(connection, alone=len(jobs) == 1)


def tune_sqlite(engine: Engine) -> None:
    """Pragmas and transactions as this project wants them, on every connection of the engine.

    Executions with the option `anshi_reading` begin as readers, all others as writers.
    """
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",  # a killed process loses nothing; a power cut may cost the last moments' rows
        "foreign_keys=ON",
        "journal_size_limit=67108864",
        "cache_size=-512",  # KiB a connection: each of ten would keep a copy of what the system keeps anyway
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("anshi_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
