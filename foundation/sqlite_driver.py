"""aiosqlite for SQLAlchemy with one hop to the driver's thread for a statement instead of four.

    create_async_engine(url, module=sqlite_driver())

SQLAlchemy's own adapter makes a cursor, executes, fetches and closes in turn, each a message to the thread
and back by way of the event loop: a transaction lasts as many turns of the loop, and on a busy one that is
seconds in which nobody else can write.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from dataclasses import dataclass
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import immutabledict

__all__ = ["sqlite_driver"]


@dataclass(slots=True)
class _Executed:
    """What a statement leaves behind, in place of its cursor, which is closed."""

    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()
    _awaitable_cursor_close = False

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor: Any = _Executed()
        self._soft_closed_memoized = immutabledict()
        self._rows = deque()

    def close(self) -> None:
        self._rows.clear()

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        await self._in_one_hop("execute", operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        await self._in_one_hop("executemany", operation, seq_of_parameters)

    async def _in_one_hop(self, method: str, operation: str, parameters: Any) -> None:
        driver: Any = self._connection
        async with self._adapt_connection._execute_mutex:
            done, rows = await driver._execute(_execute, driver._conn, method, operation, parameters)
        self._cursor, self._rows = done, deque(rows)


def _execute(
    connection: sqlite3.Connection, method: str, operation: str, parameters: Any
) -> tuple[_Executed, list[Any]]:
    """In the driver's thread."""
    cursor = connection.cursor()
    try:
        getattr(cursor, method)(operation, parameters)
        rows = cursor.fetchall() if cursor.description else []
        return _Executed(cursor.description, cursor.rowcount, cursor.lastrowid), rows
    finally:
        cursor.close()


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _Cursor


class _Driver(AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *arg: Any, **kw: Any) -> _Connection:
        adapted = super().connect(*arg, **kw)
        return _Connection(self, adapted._connection)


def sqlite_driver() -> Any:
    """The DBAPI module for `create_async_engine`."""
    return _Driver(aiosqlite, sqlite3)
