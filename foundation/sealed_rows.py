"""Every sealed cell of the database: do the keys open them, and sealing anew after a change of keys.

check(connection, box)          SealedCount; raises SecretsError
seal_anew(connection, box)      how many were sealed with another key
anything_sealed(connection)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, and_, select, update

from foundation.schema import Base
from foundation.secrets import Cell, SecretBox

__all__ = ["SealedCount", "anything_sealed", "check", "seal_anew"]

_PLACES = (
    ("cameras", "password"),
    ("broadcasts", "push_url"),
    ("sip_accounts", "ha1_md5"),
    ("sip_accounts", "ha1_sha256"),
)
_COLUMNS: tuple[Column[Any], ...] = tuple(Base.metadata.tables[table].c[name] for table, name in _PLACES)


@dataclass(frozen=True, slots=True)
class SealedCount:
    """Secrets there are, and how many of them another key than the first one sealed."""

    all: int
    old: int


def anything_sealed(connection: Connection) -> bool:
    return any(
        connection.execute(select(column).where(_there(column)).limit(1)).first() is not None
        for column in _COLUMNS
    )


def check(connection: Connection, box: SecretBox) -> SealedCount:
    """Open every one."""
    count = old = 0
    for _, cell, stored in _cells(connection):
        box.open(cell, stored)
        count += 1
        old += box.old(stored)
    return SealedCount(count, old)


def seal_anew(connection: Connection, box: SecretBox) -> int:
    """Seal with the first key what another one sealed."""
    changed = 0
    for column, cell, stored in list(_cells(connection)):
        if box.old(stored):
            key = and_(*(part == value for part, value in zip(_key(column), cell.row, strict=True)))
            again = box.seal(cell, box.open(cell, stored))
            connection.execute(update(column.table).where(key).values({column.name: again}))
            changed += 1
    return changed


def _cells(connection: Connection) -> Iterator[tuple[Column[Any], Cell, str]]:
    for column in _COLUMNS:
        for stored, *row in connection.execute(select(column, *_key(column)).where(_there(column))).all():
            yield column, Cell(column.table.name, column.name, tuple(row)), stored


def _key(column: Column[Any]) -> tuple[Column[Any], ...]:
    table: Table = column.table
    return tuple(table.primary_key.columns)


def _there(column: Column[Any]) -> Any:
    return and_(column.is_not(None), column != "")
