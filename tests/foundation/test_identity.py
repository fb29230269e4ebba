"""Signing in, staying in and guessing passwords, on both databases."""

import asyncio
import threading
from datetime import timedelta
from typing import Literal

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from foundation.authorisation import Role, RolesConflict
from foundation.clock import FakeClock
from foundation.database import Database
from foundation.identity import (
    HasherBusy,
    Identity,
    Passwords,
    SessionKind,
    TooManyAttempts,
    WeakPassword,
    WrongCredentials,
    new_user,
)
from foundation.repositories.audit import AuditRepository
from foundation.repositories.users import User, UserNameError, UserRepository, UserTaken
from foundation.schema import SessionRow

PASSWORD = "correct horse 电池"
HERE = "10.1.2.3"


async def add_user(database: Database, passwords: Passwords, clock: FakeClock, name: str = "liu") -> User:
    user = await new_user(
        passwords,
        clock,
        name=name,
        password=PASSWORD,
        roles=frozenset({Role.OPERATOR}),
        site_id="guangxi",
        display_name="刘",
        grants=frozenset({"nation"}),
    )
    async with database.transaction() as tx:
        await UserRepository(tx).add(user)
    return user


@pytest.fixture
async def liu(database: Database, passwords: Passwords, clock: FakeClock) -> User:
    return await add_user(database, passwords, clock)


@pytest.fixture
def identity(database: Database, passwords: Passwords, clock: FakeClock, liu: User) -> Identity:
    return Identity(database, clock, passwords)


async def audited(database: Database) -> list[tuple[str, str, str]]:
    async with database.reading() as tx:
        rows = await AuditRepository(tx).after(0, 1000)
    return [(row.actor, row.action, row.outcome) for row in rows]


async def test_session_names_the_actor(identity: Identity, liu: User) -> None:
    signed = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    session = await identity.resolve(signed.token, SessionKind.COOKIE)
    assert session is not None
    assert session.actor == signed.actor
    assert (session.actor.user_id, session.actor.display_name, session.actor.site_id) == (
        liu.id,
        "刘",
        "guangxi",
    )
    assert session.actor.roles == {Role.OPERATOR}
    assert session.actor.grants == {"nation"}


async def test_any_spelling_of_the_name_is_the_same_account(identity: Identity, liu: User) -> None:
    assert (await identity.sign_in(" ＬＩＵ", PASSWORD, SessionKind.BEARER, HERE)).actor.user_id == liu.id


async def test_token_is_long_and_never_stored(identity: Identity, database: Database) -> None:
    first = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    second = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    assert first.token != second.token
    assert len(first.token) == 43, "256 bits in base64url"
    assert first.token not in repr(first)
    async with database.reading() as tx:
        stored = (await tx.scalars(select(SessionRow.token_hash))).all()
    assert len(stored) == 2
    assert not {first.token, second.token} & set(stored)


@pytest.mark.parametrize(
    ("kind", "other"),
    [(SessionKind.COOKIE, SessionKind.BEARER), (SessionKind.BEARER, SessionKind.COOKIE)],
)
async def test_a_token_of_one_kind_is_none_of_the_other(
    identity: Identity, kind: SessionKind, other: SessionKind
) -> None:
    signed = await identity.sign_in("liu", PASSWORD, kind, HERE)
    assert await identity.resolve(signed.token, other) is None
    assert await identity.resolve(signed.token, kind) is not None
    assert bool(signed.csrf_token) is (kind is SessionKind.COOKIE)


async def test_csrf_token_belongs_to_its_session(identity: Identity) -> None:
    first = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    second = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    assert identity.csrf_valid(first.token, first.csrf_token)
    for wrong in (second.csrf_token, first.token, "", None, "\udcff"):
        assert not identity.csrf_valid(first.token, wrong)


async def test_unused_session_ends_and_a_used_one_does_not(identity: Identity, clock: FakeClock) -> None:
    used = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    unused = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    for _ in range(3):
        clock.advance(timedelta(minutes=59).total_seconds())
        assert await identity.resolve(used.token, SessionKind.COOKIE) is not None
    assert await identity.resolve(unused.token, SessionKind.COOKIE) is None
    clock.advance(timedelta(minutes=61).total_seconds())
    assert await identity.resolve(used.token, SessionKind.COOKIE) is None
    assert await identity.forget_expired() == 2


async def test_every_session_ends_in_the_end(identity: Identity, clock: FakeClock) -> None:
    signed = await identity.sign_in("liu", PASSWORD, SessionKind.BEARER, HERE)
    for _ in range(23):
        clock.advance(timedelta(minutes=31).total_seconds())
        session = await identity.resolve(signed.token, SessionKind.BEARER)
        assert session is not None
        assert session.expires_at <= FakeClock().now() + timedelta(hours=12)
    clock.advance(timedelta(minutes=31).total_seconds())
    assert await identity.resolve(signed.token, SessionKind.BEARER) is None


async def test_sign_out_ends_this_session_only(identity: Identity, database: Database) -> None:
    first = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    second = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    assert await identity.sign_out(first.token, HERE)
    assert not await identity.sign_out(first.token, HERE)
    assert await identity.resolve(first.token, SessionKind.COOKIE) is None
    assert await identity.resolve(second.token, SessionKind.COOKIE) is not None
    assert await audited(database) == [
        ("liu", "sign-in", "done"),
        ("liu", "sign-in", "done"),
        ("liu", "sign-out", "done"),
    ]


async def test_disabled_account_is_out_at_once_and_looks_like_a_wrong_password(
    identity: Identity, database: Database, liu: User
) -> None:
    signed = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    async with database.transaction() as tx:
        fields = {name: getattr(liu, name) for name in User.__slots__}
        assert await UserRepository(tx).update(User(**{**fields, "enabled": False}))
    assert await identity.resolve(signed.token, SessionKind.COOKIE) is None
    with pytest.raises(WrongCredentials) as disabled:
        await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    with pytest.raises(WrongCredentials) as wrong:
        await identity.sign_in("liu", "something else", SessionKind.COOKIE, HERE)
    assert str(disabled.value) == str(wrong.value)


@pytest.mark.parametrize("name", ["nobody", "", "li\0u", "x" * 500, "\ud800", "two words"])
async def test_unknown_name_is_refused_audited_and_costs_a_hash(
    database: Database, clock: FakeClock, liu: User, name: str
) -> None:
    hashed: list[str | bytes] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
            hashed.append(hash)
            return super().verify(hash, password)

    passwords = Passwords(Counting(time_cost=1, memory_cost=64, parallelism=1))
    identity = Identity(database, clock, passwords)
    with pytest.raises(WrongCredentials):
        await identity.sign_in(name, PASSWORD, SessionKind.COOKIE, HERE)
    assert len(hashed) == 1
    with pytest.raises(WrongCredentials):
        await identity.sign_in("liu", "wrong", SessionKind.COOKIE, HERE)
    nobody, known = (str(each).rpartition("$")[0].rpartition("$")[0] for each in hashed)
    assert nobody == known, "the same argon2id parameters, so the same time"
    assert known.startswith("$argon2id$")
    assert [outcome for _, _, outcome in await audited(database)] == ["refused", "refused"]
    passwords.close()


async def test_wrong_passwords_are_slowed_more_and_more(
    identity: Identity, database: Database, clock: FakeClock
) -> None:
    async def guess(address: str) -> None:
        await identity.sign_in("liu", "wrong", SessionKind.COOKIE, address)

    waits = []
    for turn in range(4):
        with pytest.raises(WrongCredentials):
            await guess(f"10.0.0.{turn}")
    for turn in range(8):
        with pytest.raises(TooManyAttempts) as slowed:
            await guess(f"10.0.1.{turn}")
        waits.append(slowed.value.retry_after)
        clock.advance(slowed.value.retry_after)
        with pytest.raises(WrongCredentials):
            await guess(f"10.0.2.{turn}")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    with pytest.raises(TooManyAttempts, match="try again in 60 s"):
        await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    clock.advance(60)
    await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    with pytest.raises(WrongCredentials):
        await guess(HERE)
    outcomes = [outcome for _, _, outcome in await audited(database)]
    assert outcomes == ["refused"] * 4 + ["slowed"] + ["refused"] * 8 + ["done", "refused"]


async def test_an_address_that_tries_many_names_is_slowed(identity: Identity, clock: FakeClock) -> None:
    for turn in range(21):
        with pytest.raises(WrongCredentials):
            await identity.sign_in(f"user{turn}", "wrong", SessionKind.COOKIE, f"2001:db8::{turn:x}")
    with pytest.raises(TooManyAttempts):
        await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, "2001:db8::ffff")
    await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, "2001:db8:0:1::1")


async def test_guesses_made_at_once_gain_nothing(identity: Identity) -> None:
    guesses = (identity.sign_in("liu", "wrong", SessionKind.COOKIE, HERE) for _ in range(20))
    outcomes = [type(each) for each in await asyncio.gather(*guesses, return_exceptions=True)]
    assert outcomes.count(WrongCredentials) == 4
    assert outcomes.count(TooManyAttempts) == 16


async def test_changing_the_password_ends_the_other_sessions(identity: Identity, database: Database) -> None:
    mine = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    other = await identity.sign_in("liu", PASSWORD, SessionKind.BEARER, HERE)
    with pytest.raises(WrongCredentials):
        await identity.change_password(mine.actor, "wrong", "another good one", HERE)
    await identity.change_password(mine.actor, PASSWORD, "another good one", HERE, keep=mine.token)
    assert await identity.resolve(mine.token, SessionKind.COOKIE) is not None
    assert await identity.resolve(other.token, SessionKind.BEARER) is None
    with pytest.raises(WrongCredentials):
        await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    await identity.sign_in("liu", "another good one", SessionKind.COOKIE, HERE)
    assert ("liu", "change-password", "done") in await audited(database)


async def test_reset_by_the_security_administrator(identity: Identity, liu: User) -> None:
    signed = await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    assert await identity.reset_password(signed.actor, liu.id, "another good one", HERE)
    assert not await identity.reset_password(signed.actor, "nobody", "another good one", HERE)
    assert await identity.resolve(signed.token, SessionKind.COOKIE) is None
    await identity.sign_in("liu", "another good one", SessionKind.COOKIE, HERE)
    assert await identity.end_sessions(signed.actor, liu.id, HERE) == 1


async def test_weaker_hash_is_replaced_at_sign_in(
    identity: Identity, database: Database, clock: FakeClock, liu: User
) -> None:
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=64, parallelism=1))
    await Identity(database, clock, stronger).sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    async with database.reading() as tx:
        stored = await UserRepository(tx).get(liu.id)
    assert stored is not None
    assert "t=2" in stored.password_hash
    assert "t=1" in liu.password_hash
    await identity.sign_in("liu", PASSWORD, SessionKind.COOKIE, HERE)
    stronger.close()


async def test_too_many_hashes_at_once_are_refused_and_not_held_against_the_user(
    database: Database, clock: FakeClock, liu: User
) -> None:
    release = threading.Event()

    class Held(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            release.wait(30)
            return super().hash(password, salt=salt)

    passwords = Passwords(Held(time_cost=1, memory_cost=64, parallelism=1), threads=1, waiting=1)
    identity = Identity(database, clock, passwords)
    hold = [asyncio.create_task(passwords.hash("x")) for _ in range(2)]
    await asyncio.sleep(0)
    for _ in range(10):
        with pytest.raises(HasherBusy):
            await identity.sign_in("liu", PASSWORD, SessionKind.BEARER, HERE)
    assert passwords.refused == 10
    release.set()
    await asyncio.gather(*hold)
    await identity.sign_in("liu", PASSWORD, SessionKind.BEARER, HERE)
    passwords.close()


@pytest.mark.parametrize(
    ("password", "words"),
    [("short", "10 characters"), ("aaaaaaaabbbb", "5 different"), ("my-LIU-secret", "user's name")],
)
async def test_weak_password(passwords: Passwords, clock: FakeClock, password: str, words: str) -> None:
    with pytest.raises(WeakPassword, match=words):
        await new_user(
            passwords, clock, name="liu", password=password, roles=frozenset({Role.VIEWER}), site_id="nation"
        )


async def test_a_name_belongs_to_one_user(
    database: Database, passwords: Passwords, clock: FakeClock, liu: User
) -> None:
    with pytest.raises(UserTaken, match="'liu'"):
        await add_user(database, passwords, clock, "LIU")
    with pytest.raises(UserNameError):
        await add_user(database, passwords, clock, "li u")
    with pytest.raises(RolesConflict):
        await new_user(
            passwords,
            clock,
            name="wang",
            password=PASSWORD,
            roles=frozenset({Role.AUDITOR, Role.SYSTEM_ADMIN}),
            site_id="nation",
        )
    async with database.reading() as tx:
        assert [user.name for user in await UserRepository(tx).all()] == ["liu"]
