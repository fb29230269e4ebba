"""One database: SQLite (a file) by default, PostgreSQL by its URL.

    database = Database("sqlite:////var/lib/anshi/anshi.db")       # or postgresql://user:pw@host/name
    async with database.transaction() as tx:      # to write: committed at the end, an exception rolls back
        await UserRepository(tx).add(...)
    async with database.reading() as tx:          # to read: a snapshot, never waits for a writer
        ...
    await database.write(work); await database.read(work)     # the same for what is done many times a second
    await database.aclose()

Errors say who erred: `DatabaseBusy` (somebody else holds the lock; try again), `DatabaseUnavailable` (no
database there), `DatabaseAddressError` (the setting is wrong). Writers of one process queue here, in order,
so that SQLite's own lock is only ever fought over with other processes. Transactions are short: never wait
for the network inside one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from foundation.sqlite_driver import sqlite_driver
from foundation.sqlite_work import SqliteWork, TooMuchWork, tune_sqlite

__all__ = [
    "Database",
    "DatabaseAddressError",
    "DatabaseBusy",
    "DatabaseError",
    "DatabaseUnavailable",
    "Transaction",
]

Transaction: TypeAlias = AsyncSession
_Result = TypeVar("_Result")

_SQLITE_WAL_WRITE_LOCK = 120
"""The byte of the -shm file that a WAL writer locks (SQLite file format, 2.3.2 "WAL-Index Locks")."""
_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK_DETECTED = "40P01"


class DatabaseError(Exception):
    """Base of what this module raises."""


class DatabaseAddressError(DatabaseError):
    """The configured database URL cannot be used; the administrator must mend the setting."""


class DatabaseBusy(DatabaseError):
    """Somebody else held a lock for longer than we wait; the same request may work a moment later."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached or opened at all."""


class Database:
    """Engine and sessions of one database.

    `busy_timeout`: seconds a transaction waits for somebody else's lock before `DatabaseBusy`. `secrets`
    is for repositories (`foundation.secrets.secrets_of`) and opens what is sealed; a process without sees
    everything else.
    Raises DatabaseAddressError for a URL that is no SQLite file or PostgreSQL database.
    """

    def __init__(
        self, url: str, *, busy_timeout: float = 5.0, pool_size: int = 8, secrets: object = None
    ) -> None:
        self.url = _normal_url(url)
        self._info: dict[Any, Any] = {"secrets": secrets}
        self.busy_timeout = busy_timeout
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writer = _WriterQueue()
        self._file_tried = False
        if self.is_sqlite:
            # Transactions are begun by our own statement: the driver would begin them too late, as readers.
            arguments: dict[str, Any] = {"timeout": busy_timeout, "isolation_level": None}
            driver = {"module": sqlite_driver()}
        else:
            driver = {}
            arguments = {
                "server_settings": {"lock_timeout": str(round(busy_timeout * 1000))},
                "timeout": 10.0,
            }
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            connect_args=arguments,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=busy_timeout,
            # The last one given back first: in turn, each of ten would fill its caches for the few at work.
            pool_use_lifo=True,
            pool_pre_ping=not self.is_sqlite,
            **driver,
        )
        self._readers = self.engine.execution_options(anshi_reading=True)
        self._work: SqliteWork | None = None
        if self.is_sqlite:
            tune_sqlite(self.engine.sync_engine)
            self._work = SqliteWork(self.url, busy_timeout, self._turn, self._writer.release)

    @property
    def name(self) -> str:
        """The database's address without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The SQLite file, None for PostgreSQL."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction that may write. Raises DatabaseBusy, DatabaseUnavailable; not to be nested."""
        if not self.is_sqlite:
            async with self._session(self.engine) as tx:
                yield tx
            return
        await self._turn()
        try:
            async with self._session(self.engine) as tx:
                yield tx
        finally:
            self._writer.release()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """A transaction that only reads; on SQLite it never waits for a writer."""
        async with self._session(self._readers) as tx:
            yield tx

    async def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """A whole write transaction as one step: committed when `work` returns, undone when it raises.

        On SQLite it is one hop to a thread, where `transaction` takes several for each statement, and what
        waits together is committed together; so `work` touches nothing but its connection and values that
        do not change. Once begun it is carried to its end, even if whoever waits is cancelled.
        Raises as `transaction`, and what `work` raises.
        """
        if self._work is None:
            async with self._session(self.engine) as tx:
                return await (await tx.connection()).run_sync(work)
        self._writer.refuse_nesting()
        with self._explained():
            return await self._work.write(work)

    async def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """The same for a transaction that only reads."""
        if self._work is None:
            async with self._session(self._readers) as tx:
                return await (await tx.connection()).run_sync(work)
        with self._explained():
            return await self._work.read(work)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._work is not None:
            await self._work.aclose()
        await self.engine.dispose()

    async def _turn(self) -> None:
        """Wait for the turn to write, which is then this task's."""
        try:
            await self._writer.acquire(self.busy_timeout)
        except TimeoutError:
            holder = self._writer.holder
            raise DatabaseBusy(
                f"database {self.name} is busy: task {holder!r} of this process has kept its write "
                f"transaction open for over {self.busy_timeout:g} s"
            ) from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TooMuchWork as error:
            raise DatabaseBusy(f"database {self.name} is busy: {error}") from None
        except Exception as error:
            explained = self.explain(error)
            if explained is error:
                raise
            raise explained from error

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine) -> AsyncIterator[Transaction]:
        async with AsyncSession(engine, expire_on_commit=False, info=self._info) as session:
            try:
                if self.is_sqlite and not self._file_tried:
                    await asyncio.to_thread(self._try_file)
                await session.connection()  # begins now, so that a lock or a dead server shows up here
            except TimeoutError:
                raise DatabaseUnavailable(f"database {self.name} does not answer in time") from None
            except OSError as error:
                raise DatabaseUnavailable(f"database {self.name} cannot be reached: {error}") from error
            except PoolTimeout:
                raise DatabaseBusy(
                    f"database {self.name} is busy: this process has used all its connections "
                    f"for over {self.busy_timeout:g} s"
                ) from None
            except Exception as error:  # at the start asyncpg's errors come unwrapped
                explained = self.explain(error)
                if explained is error:
                    raise
                raise explained from error
            try:
                yield session
                await session.commit()
            except DBAPIError as error:
                explained = self.explain(error)
                if explained is error:
                    raise
                raise explained from error

    def _try_file(self) -> None:
        """Open the file without the driver, whose thread outlives a failure. Raises sqlite3.Error."""
        with closing(sqlite3.connect(self.url.database or "", timeout=self.busy_timeout)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        self._file_tried = True

    def explain(self, error: Exception) -> Exception:
        """The error that says who erred, or `error` itself when it is not about locks or reachability."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        if isinstance(sqlite_cause := _sqlite_cause(cause), sqlite3.Error):
            return self._explain_sqlite(error, sqlite_cause)
        state = getattr(cause, "sqlstate", None)
        if state in (_LOCK_NOT_AVAILABLE, _DEADLOCK_DETECTED):
            return DatabaseBusy(
                f"database {self.name} is busy: another transaction held a lock "
                f"for over {self.busy_timeout:g} s"
            )
        connection_lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if connection_lost or (isinstance(state, str) and state[:2] in ("08", "28", "3D", "53", "57")):
            return DatabaseUnavailable(f"database {self.name} refuses or dropped the connection: {cause}")
        return error

    def _explain_sqlite(self, error: Exception, cause: sqlite3.Error) -> Exception:
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return DatabaseBusy(
                f"database {self.name} is busy: {self._lock_holder()} has held its write lock "
                f"for over {self.busy_timeout:g} s"
            )
        unusable = (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_PERM,
        )
        if code in unusable:
            return DatabaseUnavailable(f"database {self.name} cannot be used: {cause}")
        return error

    def _lock_holder(self) -> str:
        """Name the process that holds the write lock, from the kernel's table; a guess is not made."""
        nameless = "another process"
        with suppress(OSError, ValueError, IndexError):
            inode = str(os.stat(f"{self.url.database}-shm").st_ino)
            for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
                # 1: POSIX  ADVISORY  WRITE 4711 08:01:131 120 120
                fields = line.split()
                if fields[1] != "POSIX" or fields[3] != "WRITE" or fields[5].rpartition(":")[2] != inode:
                    continue
                if int(fields[6]) <= _SQLITE_WAL_WRITE_LOCK and fields[4] != str(os.getpid()):
                    command = Path(f"/proc/{fields[4]}/comm").read_text(encoding="utf-8").strip()
                    return f"process {fields[4]} ({command})"
        return nameless


class _WriterQueue:
    """The turn to write, first come first served, with the name of who has it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None

    @property
    def holder(self) -> str:
        return self._owner.get_name() if self._owner else "?"

    async def acquire(self, timeout: float) -> None:
        self.refuse_nesting()
        async with asyncio.timeout(timeout):
            await self._lock.acquire()
        self._owner = asyncio.current_task()

    def refuse_nesting(self) -> None:
        """Raises RuntimeError when it is this very task's turn: it would wait for itself."""
        if self._owner is not None and self._owner is asyncio.current_task():
            raise RuntimeError("a write transaction was opened inside another one by the same task")

    def release(self) -> None:
        self._owner = None
        self._lock.release()


def _normal_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise DatabaseAddressError(
            "the database URL cannot be read; it is sqlite:////folder/file.db or postgresql://user:pw@host/name"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise DatabaseAddressError("a SQLite database must be a file: sqlite:////folder/file.db")
        return url.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+asyncpg")
    raise DatabaseAddressError(f"database kind {backend!r} is not supported; use sqlite or postgresql")


def _sqlite_cause(error: BaseException | None) -> BaseException | None:
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.__cause__
    return error
