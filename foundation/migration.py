"""Brings a database to the schema this code knows.

    outcome = await migrate("sqlite:////var/lib/anshi/anshi.db", key_file=Path("/var/lib/anshi/secrets.key"))
    outcome.before, outcome.after                 revisions; before is None for an empty database

One process migrates at a time (a lock file beside a SQLite file, an advisory lock on PostgreSQL); others
wait. A key file that is not there is made, unless something is sealed already; the keys must open whatever
is. Raises SchemaTooNew when a newer Anshi has been here, SchemaLocked when another process keeps migrating,
SecretsError when the key file is lost or wrong, and what foundation.database raises.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from foundation.database import Database, DatabaseBusy, DatabaseError, DatabaseUnavailable, Transaction
from foundation.sealed_rows import anything_sealed, check
from foundation.secrets import SecretBox, make_key_file

__all__ = ["Migrated", "SchemaLocked", "SchemaTooNew", "current_revision", "known_revision", "migrate"]

_ADVISORY_LOCK = 0x616E736869  # "anshi"
_POLL = 0.1
_SEALED_SINCE = "0009"


class SchemaTooNew(DatabaseError):
    """The database was migrated by a newer Anshi than this one."""


class SchemaLocked(DatabaseBusy):
    """Another process is migrating and does not come to an end."""


@dataclass(frozen=True, slots=True)
class Migrated:
    before: str | None
    after: str


def known_revision() -> str:
    """The newest revision this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise DatabaseError("this installation of Anshi has lost its migrations; install it again")
    return head


async def current_revision(database: Database) -> str | None:
    """The revision the database has, None when it is empty."""
    async with database.reading() as tx:
        connection = await tx.connection()
        return await connection.run_sync(_revision)


async def migrate(url: str, *, key_file: Path | None = None, lock_timeout: float = 60.0) -> Migrated:
    """Upgrade the database at `url` to the newest schema; nothing happens when it is there already. Without
    a key file no secret can be sealed, and none is looked at."""
    database = Database(url)
    try:
        async with _lock(database, lock_timeout):
            before = await current_revision(database)
            known = known_revision()
            if before is not None and before not in _all_revisions():
                raise SchemaTooNew(
                    f"database {database.name} has schema {before}, which is newer than this Anshi knows "
                    f"({known}); start the newer Anshi, or restore the backup made before it"
                )
            box = None if key_file is None else await _keys(database, before, key_file)
            if before != known:
                async with database.transaction() as tx:
                    connection = await tx.connection()
                    await connection.run_sync(_upgrade, box)
            if box is not None:
                async with database.reading() as tx:
                    await (await tx.connection()).run_sync(check, box)
            return Migrated(before, known)
    finally:
        await database.aclose()


async def _keys(database: Database, revision: str | None, path: Path) -> SecretBox:
    """Those of the file, which is made where nothing needs an earlier one."""
    if not await asyncio.to_thread(path.exists):
        sealed = False
        if revision is not None and revision >= _SEALED_SINCE:
            async with database.reading() as tx:
                sealed = await (await tx.connection()).run_sync(anything_sealed)
        if not sealed:
            await asyncio.to_thread(make_key_file, path)
    return await asyncio.to_thread(SecretBox.load, path)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _all_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, box: SecretBox | None) -> None:
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["secrets"] = box
    command.upgrade(config, "head")


@asynccontextmanager
async def _lock(database: Database, timeout: float) -> AsyncIterator[None]:
    lock = _file_lock if database.is_sqlite else _advisory_lock
    async with lock(database, timeout):
        yield


@asynccontextmanager
async def _file_lock(database: Database, timeout: float) -> AsyncIterator[None]:
    path = f"{database.path}.migrating"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            async with asyncio.timeout(timeout):
                while not _try_flock(descriptor):  # noqa: ASYNC110 - the other holder is another process
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise _locked(database, timeout) from None
        yield
    finally:
        os.close(descriptor)  # the file stays: removing it would let two processes lock two files


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _advisory_lock(database: Database, timeout: float) -> AsyncIterator[None]:
    async with database.reading() as tx:
        try:
            async with asyncio.timeout(timeout):
                while not await _try_advisory(tx):  # noqa: ASYNC110 - the other holder is another process
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise _locked(database, timeout) from None
        yield


async def _try_advisory(tx: Transaction) -> bool:
    taken = await tx.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    return bool(taken)


def _locked(database: Database, timeout: float) -> SchemaLocked:
    return SchemaLocked(
        f"another process has been migrating database {database.name} for over {timeout:g} s; "
        "wait for it or stop it, then start again"
    )
