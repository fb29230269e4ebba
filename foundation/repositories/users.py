"""Users and their sessions.

    UserRepository(tx): add, get, by_name, all, update, set_password, remove
    SessionRepository(tx): add, get, touch, remove, remove_of, remove_expired, of_user

Names are compared in their normal form (`normal_name`): one spelling, one account.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, or_, select, update

from foundation.authorisation import Role, check_roles
from foundation.database import Transaction
from foundation.schema import SessionRow, UserGrantRow, UserRow

__all__ = [
    "SessionRepository",
    "StoredSession",
    "User",
    "UserNameError",
    "UserRepository",
    "UserTaken",
    "normal_name",
]

_LONGEST_NAME = 64


class UserNameError(ValueError):
    """This cannot be the name of a user."""


class UserTaken(ValueError):
    """There is a user of that name already."""


@dataclass(frozen=True, slots=True)
class User:
    """`site_id` is the jurisdiction, `grants` are roots of further subtrees."""

    id: str
    name: str
    display_name: str
    roles: frozenset[Role]
    site_id: str
    password_hash: str
    enabled: bool
    created_at: datetime
    password_changed_at: datetime
    grants: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as stored: only the token's hash is known. Ends at the earlier of the two expiries."""

    token_hash: str
    user_id: str
    kind: str
    address: str
    created_at: datetime
    seen_at: datetime
    idle_expires_at: datetime
    expires_at: datetime


def normal_name(name: str) -> str:
    """The one spelling under which a name is stored. Raises UserNameError."""
    normal = unicodedata.normalize("NFKC", name).casefold().strip()
    if not normal or len(normal) > _LONGEST_NAME:
        raise UserNameError(f"a user name has 1 to {_LONGEST_NAME} characters")
    if any(unicodedata.category(character)[0] in "CZ" for character in normal):
        raise UserNameError("a user name has no spaces or control characters")
    return normal


class UserRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, user: User) -> None:
        """Raises UserNameError, UserTaken, RolesConflict."""
        name = normal_name(user.name)
        if await self._tx.scalar(select(UserRow.id).where(UserRow.name == name)):
            raise UserTaken(f"there is a user {name!r} already")
        self._tx.add(
            UserRow(
                id=user.id,
                name=name,
                display_name=user.display_name,
                password_hash=user.password_hash,
                roles=sorted(check_roles(user.roles)),
                site_id=user.site_id,
                enabled=user.enabled,
                created_at=user.created_at,
                password_changed_at=user.password_changed_at,
            )
        )
        await self._tx.flush()
        await self._set_grants(user.id, user.grants)

    async def get(self, user_id: str) -> User | None:
        row = await self._tx.get(UserRow, user_id, populate_existing=True)
        return (await self._users([row]))[0] if row else None

    async def by_name(self, name: str) -> User | None:
        """The user of that name in any spelling; None also for what cannot be a name."""
        try:
            normal = normal_name(name)
        except UserNameError:
            return None
        row = await self._tx.scalar(select(UserRow).where(UserRow.name == normal))
        return (await self._users([row]))[0] if row else None

    async def all(self) -> tuple[User, ...]:
        """Every user, by name."""
        return tuple(await self._users(list(await self._tx.scalars(select(UserRow).order_by(UserRow.name)))))

    async def update(self, user: User) -> bool:
        """Store everything but the name and password; False when the user is gone. Raises RolesConflict."""
        changed = await self._tx.execute(
            update(UserRow)
            .where(UserRow.id == user.id)
            .values(
                display_name=user.display_name,
                roles=sorted(check_roles(user.roles)),
                site_id=user.site_id,
                enabled=user.enabled,
            )
            .returning(UserRow.id)
        )
        if changed.first() is None:
            return False
        await self._set_grants(user.id, user.grants)
        return True

    async def set_password(self, user_id: str, password_hash: str, changed_at: datetime) -> bool:
        changed = await self._tx.execute(
            update(UserRow)
            .where(UserRow.id == user_id)
            .values(password_hash=password_hash, password_changed_at=changed_at)
            .returning(UserRow.id)
        )
        return changed.first() is not None

    async def remove(self, user_id: str) -> bool:
        """Remove the user with all sessions and grants."""
        removed = await self._tx.execute(delete(UserRow).where(UserRow.id == user_id).returning(UserRow.id))
        return removed.first() is not None

    async def _set_grants(self, user_id: str, grants: frozenset[str]) -> None:
        await self._tx.execute(delete(UserGrantRow).where(UserGrantRow.user_id == user_id))
        self._tx.add_all(UserGrantRow(user_id=user_id, site_id=site) for site in sorted(grants))
        await self._tx.flush()

    async def _users(self, rows: list[UserRow]) -> list[User]:
        wanted = select(UserGrantRow.user_id, UserGrantRow.site_id)
        if len(rows) == 1:
            wanted = wanted.where(UserGrantRow.user_id == rows[0].id)
        grants: dict[str, set[str]] = {}
        for user_id, site_id in await self._tx.execute(wanted):
            grants.setdefault(user_id, set()).add(site_id)
        return [
            User(
                id=row.id,
                name=row.name,
                display_name=row.display_name,
                roles=frozenset(Role(role) for role in row.roles),
                site_id=row.site_id,
                password_hash=row.password_hash,
                enabled=row.enabled,
                created_at=row.created_at,
                password_changed_at=row.password_changed_at,
                grants=frozenset(grants.get(row.id, ())),
            )
            for row in rows
        ]


class SessionRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def add(self, session: StoredSession) -> None:
        self._tx.add(
            SessionRow(
                token_hash=session.token_hash,
                user_id=session.user_id,
                kind=session.kind,
                address=session.address,
                created_at=session.created_at,
                seen_at=session.seen_at,
                idle_expires_at=session.idle_expires_at,
                expires_at=session.expires_at,
            )
        )
        await self._tx.flush()

    async def get(self, token_hash: str) -> StoredSession | None:
        row = await self._tx.get(SessionRow, token_hash)
        return _session(row) if row else None

    async def touch(self, token_hash: str, seen_at: datetime, idle_expires_at: datetime) -> None:
        """The session was used."""
        await self._tx.execute(
            update(SessionRow)
            .where(SessionRow.token_hash == token_hash)
            .values(seen_at=seen_at, idle_expires_at=idle_expires_at)
        )

    async def remove(self, token_hash: str) -> bool:
        removed = await self._tx.execute(
            delete(SessionRow).where(SessionRow.token_hash == token_hash).returning(SessionRow.user_id)
        )
        return removed.first() is not None

    async def remove_of(self, user_id: str, *, keep: str | None = None) -> int:
        """End the user's sessions, all but the one with hash `keep`; returns how many."""
        ended = delete(SessionRow).where(SessionRow.user_id == user_id)
        if keep is not None:
            ended = ended.where(SessionRow.token_hash != keep)
        return len((await self._tx.execute(ended.returning(SessionRow.token_hash))).all())

    async def remove_expired(self, now: datetime) -> int:
        """Forget sessions that have ended; returns how many."""
        ended = or_(SessionRow.idle_expires_at <= now, SessionRow.expires_at <= now)
        removed = await self._tx.execute(delete(SessionRow).where(ended).returning(SessionRow.token_hash))
        return len(removed.all())

    async def of_user(self, user_id: str) -> tuple[StoredSession, ...]:
        """The user's sessions, oldest first."""
        wanted = select(SessionRow).where(SessionRow.user_id == user_id).order_by(SessionRow.created_at)
        return tuple(_session(row) for row in await self._tx.scalars(wanted))


def _session(row: SessionRow) -> StoredSession:
    return StoredSession(
        token_hash=row.token_hash,
        user_id=row.user_id,
        kind=row.kind,
        address=row.address,
        created_at=row.created_at,
        seen_at=row.seen_at,
        idle_expires_at=row.idle_expires_at,
        expires_at=row.expires_at,
    )
