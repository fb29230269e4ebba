"""Secrets of others are sealed: passwords of cameras, addresses to push to, digest secrets of terminals

The columns are made anew and not altered: SQLite could only by rebuilding their tables, which takes with it
what refers to them. What stood there is overwritten first, so that no plain text stays in freed pages.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op

from foundation.secrets import Cell, SecretBox, SecretsError

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = (
    ("cameras", ("id",), "password", 256),
    ("broadcasts", ("id",), "push_url", 500),
    ("sip_accounts", ("username", "realm"), "ha1_md5", 32),
    ("sip_accounts", ("username", "realm"), "ha1_sha256", 64),
)


def upgrade() -> None:
    for table, keys, column, _length in COLUMNS:
        found = _read(table, keys, column)
        sealed = [(row, _box().seal(Cell(table, column, row), plain)) for row, plain in found]
        _renew(table, keys, sa.Column(column, sa.Text(), nullable=True), sealed)


def downgrade() -> None:
    for table, keys, column, length in COLUMNS:
        found = _read(table, keys, column)
        plain = [(row, _box().open(Cell(table, column, row), sealed)) for row, sealed in found]
        _renew(table, keys, sa.Column(column, sa.String(length), nullable=False, server_default=""), plain)


def _box() -> SecretBox:
    box = context.config.attributes.get("secrets")
    if not isinstance(box, SecretBox):
        raise SecretsError("there are secrets in the database, and no key file was given to seal them with")
    return box


def _table(table: str, keys: tuple[str, ...], column: str) -> sa.TableClause:
    return sa.table(table, *(sa.column(key, sa.String()) for key in keys), sa.column(column, sa.String()))


def _read(table: str, keys: tuple[str, ...], column: str) -> list[tuple[tuple[str, ...], str]]:
    known = _table(table, keys, column)
    rows = op.get_bind().execute(sa.select(known.c[column], *(known.c[key] for key in keys)))
    return [(tuple(row), text) for text, *row in rows if text]


def _renew(
    table: str, keys: tuple[str, ...], column: sa.Column[Any], content: list[tuple[tuple[str, ...], str]]
) -> None:
    known = _table(table, keys, column.name)
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        bind.execute(sa.text("PRAGMA secure_delete=ON"))
    bind.execute(sa.update(known).values({column.name: ""}))
    op.drop_column(table, column.name)
    op.add_column(table, column)
    for row, text in content:
        which = sa.and_(*(known.c[key] == part for key, part in zip(keys, row, strict=True)))
        bind.execute(sa.update(known).where(which).values({column.name: text}))
