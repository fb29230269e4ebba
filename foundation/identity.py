"""Who is asking: users sign in and get a session; a token is turned into an `Actor` once, at the edge.

    identity = Identity(database, clock, passwords)
    signed = await identity.sign_in(name, password, SessionKind.COOKIE, address)
    signed.token, signed.csrf_token, signed.actor, signed.expires_at
    session = await identity.resolve(token, SessionKind.COOKIE)      # None: sign in again
    identity.csrf_valid(token, header)                               # for every unsafe request with a cookie
    await identity.sign_out(token, address)
    await identity.change_password(actor, old, new, address, keep=token)

A token is 256 random bits and stored only as its SHA-256; a cookie's token is no bearer token nor the other
way round. A session ends after `idle` without use and after `absolute` in any case; a disabled user's
sessions stop at once. The cookie is to be set HttpOnly, Secure, SameSite=Strict, Path=/; the CSRF token
travels in the body of the sign-in answer and comes back in a header.

Raises WrongCredentials (whatever was wrong: name, password or a disabled account), TooManyAttempts (wait
`retry_after` seconds), WeakPassword, HasherBusy, and what foundation.database raises.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Actor, Role, check_roles
from foundation.clock import Clock
from foundation.database import Database, DatabaseBusy, Transaction
from foundation.passwords import HasherBusy, Passwords
from foundation.repositories.users import (
    SessionRepository,
    StoredSession,
    User,
    UserRepository,
    normal_name,
)
from foundation.schema import new_id
from foundation.throttle import AttemptThrottle

__all__ = [
    "Actor",
    "HasherBusy",
    "Identity",
    "Passwords",
    "Role",
    "Session",
    "SessionKind",
    "SessionLimits",
    "SignedIn",
    "TooManyAttempts",
    "WeakPassword",
    "WrongCredentials",
    "check_password",
    "new_user",
]

_TOUCH_EVERY = timedelta(minutes=1)
_SHORTEST_PASSWORD = 10


class WrongCredentials(Exception):
    """Name and password do not belong together, or the account is disabled; which, is not told."""


class TooManyAttempts(Exception):
    """Wrong passwords came too often for this account or address."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many wrong passwords; try again in {max(1, round(retry_after))} s")
        self.retry_after = retry_after


class WeakPassword(ValueError):
    """The new password is too easy; the message says why."""


class SessionKind(StrEnum):
    COOKIE = "cookie"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    idle: timedelta = timedelta(hours=1)
    absolute: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session. `token` is shown this once; `csrf_token` is empty for a bearer session."""

    actor: Actor
    token: str = field(repr=False)
    csrf_token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A live session: who, and until when if it is not used again."""

    actor: Actor
    kind: SessionKind
    expires_at: datetime


def check_password(password: str, name: str) -> None:
    """Raises WeakPassword for one that is short, has few different characters, or holds the name."""
    if len(password) < _SHORTEST_PASSWORD:
        raise WeakPassword(f"a password has at least {_SHORTEST_PASSWORD} characters")
    if len(set(password)) < 5:
        raise WeakPassword("a password has at least 5 different characters")
    if name.casefold() in password.casefold():
        raise WeakPassword("a password does not contain the user's name")


async def new_user(
    passwords: Passwords,
    clock: Clock,
    *,
    name: str,
    password: str,
    roles: frozenset[Role],
    site_id: str,
    display_name: str = "",
    grants: frozenset[str] = frozenset(),
) -> User:
    """A user ready for `UserRepository.add`. Raises WeakPassword, UserNameError, RolesConflict."""
    name = normal_name(name)
    check_password(password, name)
    now = clock.now()
    return User(
        id=new_id(),
        name=name,
        display_name=display_name or name,
        roles=check_roles(roles),
        site_id=site_id,
        password_hash=await passwords.hash(password),
        enabled=True,
        created_at=now,
        password_changed_at=now,
        grants=grants,
    )


class Identity:
    """Sign-in, sessions and passwords of one node."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        *,
        limits: SessionLimits | None = None,
        accounts: AttemptThrottle | None = None,
        addresses: AttemptThrottle | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._limits = limits or SessionLimits()
        self._accounts = accounts or AttemptThrottle(clock, limit=60.0)
        # An address may stand for a whole office: more free attempts, but longer waits.
        self._addresses = addresses or AttemptThrottle(clock, free=20, limit=900.0)

    async def sign_in(self, name: str, password: str, kind: SessionKind, address: str) -> SignedIn:
        """Open a session for `name`, who asks from the IP address `address`."""
        account_key, address_key = _account_key(name), _address_key(address)
        await self._admit(name, address, account_key, address_key)
        try:
            async with self._database.reading() as tx:
                user = await UserRepository(tx).by_name(name)
            check = await self._passwords.verify(user.password_hash if user else None, password)
        except Exception:  # ours to answer for: it was no wrong password
            self._accounts.undo(account_key)
            self._addresses.undo(address_key)
            raise
        if user is None or not user.enabled or not check.correct:
            await self._audit(AuditEntry(name, "sign-in", f"user:{name}", "refused", address))
            raise WrongCredentials("user name or password is wrong")
        self._accounts.succeeded(account_key)
        self._addresses.undo(address_key)
        return await self._open(user, kind, address, check.rehashed)

    async def resolve(self, token: str, kind: SessionKind) -> Session | None:
        """The live session of a token, None for one that is unknown, over, or of another kind."""
        hashed, now = _token_hash(token), self._clock.now()
        async with self._database.reading() as tx:
            stored = await SessionRepository(tx).get(hashed)
            if stored is None or stored.kind != kind or now >= min(stored.idle_expires_at, stored.expires_at):
                return None
            user = await UserRepository(tx).get(stored.user_id)
        if user is None or not user.enabled:
            return None
        idle_until = stored.idle_expires_at
        if now - stored.seen_at >= min(_TOUCH_EVERY, self._limits.idle / 10):
            idle_until = now + self._limits.idle
            with suppress(DatabaseBusy):  # the next request will note it
                async with self._database.transaction() as tx:
                    await SessionRepository(tx).touch(hashed, now, idle_until)
        return Session(_actor(user), kind, min(idle_until, stored.expires_at))

    async def sign_out(self, token: str, address: str) -> bool:
        """End the session; False when there was none."""
        async with self._database.transaction() as tx:
            sessions = SessionRepository(tx)
            stored = await sessions.get(_token_hash(token))
            if stored is None:
                return False
            await sessions.remove(stored.token_hash)
            user = await UserRepository(tx).get(stored.user_id)
            name = user.name if user else stored.user_id
            await self._append(tx, AuditEntry(name, "sign-out", f"user:{name}", "done", address))
        return True

    async def end_sessions(self, actor: Actor, user_id: str, address: str) -> int:
        """End every session of a user, as `actor`, whose right was asked before; returns how many."""
        async with self._database.transaction() as tx:
            user = await UserRepository(tx).get(user_id)
            ended = await SessionRepository(tx).remove_of(user_id)
            subject = f"user:{user.name if user else user_id}"
            entry = AuditEntry(actor.name, "end-sessions", subject, "done", address, {"sessions": ended})
            await self._append(tx, entry)
        return ended

    async def change_password(
        self, actor: Actor, old: str, new: str, address: str, *, keep: str | None = None
    ) -> None:
        """Replace one's own password; every other session than the one of token `keep` ends."""
        check_password(new, actor.name)
        account_key, address_key = _account_key(actor.name), _address_key(address)
        await self._admit(actor.name, address, account_key, address_key)
        async with self._database.reading() as tx:
            user = await UserRepository(tx).get(actor.user_id)
        check = await self._passwords.verify(user.password_hash if user else None, old)
        subject = f"user:{actor.name}"
        if not check.correct:
            await self._audit(AuditEntry(actor.name, "change-password", subject, "refused", address))
            raise WrongCredentials("the old password is wrong")
        self._accounts.succeeded(account_key)
        self._addresses.undo(address_key)
        done = AuditEntry(actor.name, "change-password", subject, "done", address)
        await self._store_password(actor.user_id, new, keep, done)

    async def reset_password(self, actor: Actor, user_id: str, new: str, address: str) -> bool:
        """Set another user's password, as `actor`; ends all that user's sessions. False: no such user."""
        async with self._database.reading() as tx:
            user = await UserRepository(tx).get(user_id)
        if user is None:
            return False
        check_password(new, user.name)
        done = AuditEntry(actor.name, "reset-password", f"user:{user.name}", "done", address)
        await self._store_password(user_id, new, None, done)
        self._accounts.succeeded(_account_key(user.name))
        return True

    async def forget_expired(self) -> int:
        """Remove sessions that have ended; to be called now and then. Returns how many."""
        async with self._database.transaction() as tx:
            return await SessionRepository(tx).remove_expired(self._clock.now())

    def csrf_token(self, token: str) -> str:
        """The CSRF token that belongs to a cookie session's token; it reveals nothing of that."""
        return hmac.new(token.encode(), b"anshi csrf", hashlib.sha256).hexdigest()

    def csrf_valid(self, token: str, presented: str | None) -> bool:
        """Whether the header of an unsafe request proves that our own page sent it."""
        expected = self.csrf_token(token).encode()
        return presented is not None and hmac.compare_digest(expected, presented.encode("utf-8", "replace"))

    async def _admit(self, name: str, address: str, account_key: str, address_key: str) -> None:
        """Count the attempt, or raise TooManyAttempts; only the first refusal in a row is audited."""
        wait = self._addresses.attempt(address_key)
        refusals = self._addresses.refused(address_key)
        if not wait:
            wait = self._accounts.attempt(account_key)
            refusals = self._accounts.refused(account_key)
            if wait:
                self._addresses.undo(address_key)
        if not wait:
            return
        if refusals == 1:
            await self._audit(AuditEntry(name, "sign-in", f"user:{name}", "slowed", address))
        raise TooManyAttempts(wait)

    async def _open(self, user: User, kind: SessionKind, address: str, rehashed: str | None) -> SignedIn:
        token, now = secrets.token_urlsafe(32), self._clock.now()
        stored = StoredSession(
            token_hash=_token_hash(token),
            user_id=user.id,
            kind=kind,
            address=address[:64],
            created_at=now,
            seen_at=now,
            idle_expires_at=now + self._limits.idle,
            expires_at=now + self._limits.absolute,
        )
        async with self._database.transaction() as tx:
            await SessionRepository(tx).add(stored)
            if rehashed is not None:
                await UserRepository(tx).set_password(user.id, rehashed, user.password_changed_at)
            await self._append(tx, AuditEntry(user.name, "sign-in", f"user:{user.name}", "done", address))
        csrf = self.csrf_token(token) if kind is SessionKind.COOKIE else ""
        return SignedIn(_actor(user), token, csrf, min(stored.idle_expires_at, stored.expires_at))

    async def _store_password(self, user_id: str, new: str, keep: str | None, entry: AuditEntry) -> None:
        hashed = await self._passwords.hash(new)
        async with self._database.transaction() as tx:
            await UserRepository(tx).set_password(user_id, hashed, self._clock.now())
            await SessionRepository(tx).remove_of(user_id, keep=_token_hash(keep) if keep else None)
            await self._append(tx, entry)

    async def _audit(self, entry: AuditEntry) -> None:
        async with self._database.transaction() as tx:
            await self._append(tx, entry)

    async def _append(self, tx: Transaction, entry: AuditEntry) -> None:
        await AuditTrail(tx, self._clock).append(entry)


def _actor(user: User) -> Actor:
    return Actor(user.id, user.name, user.roles, user.site_id, user.display_name, user.grants)


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _account_key(name: str) -> str:
    try:
        return normal_name(name)
    except ValueError:
        return ""  # no account can have such a name; they share one key


def _address_key(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address, which one machine has all of."""
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped:
            return str(host.ipv4_mapped)
        return str(ipaddress.ip_network((int(host), 64), strict=False))
    return str(host)
