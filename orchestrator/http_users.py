"""Accounts over HTTP: the security administrator's work.

Nobody changes an account that reaches further than the own jurisdiction, grants roles to oneself, or
locks oneself out; one's own password is changed at /api/v1/session/password, where the old one is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource, Role, RolesConflict, check_roles
from foundation.clock import Clock
from foundation.database import Database, Transaction
from foundation.http_edge import Exchange, Problem, Route, Wanted, bad_request, conflict, forbidden, not_found
from foundation.identity import Identity, WeakPassword, check_password, new_user
from foundation.passwords import Passwords
from foundation.repositories.users import (
    SessionRepository,
    User,
    UserNameError,
    UserRepository,
    UserTaken,
)

USERS = "/api/v1/users"


class AccountOut(BaseModel):
    id: str
    name: str
    display_name: str
    roles: list[Role]
    site_id: str
    grants: list[str]
    disabled: bool
    created_at: datetime
    password_changed_at: datetime


class NewAccount(Wanted):
    """`site_id` is the root of the subtree the user may act in, `grants` the roots of further ones."""

    name: str = Field(min_length=1, max_length=64)
    display_name: str = Field(default="", max_length=200)
    password: str = Field(min_length=1, max_length=1024)
    roles: list[Role] = Field(min_length=1)
    site_id: str
    grants: list[str] = Field(default_factory=list, max_length=100)


class AccountPatch(Wanted):
    display_name: str | None = Field(default=None, min_length=1, max_length=200)
    password: str | None = Field(default=None, min_length=1, max_length=1024)
    roles: list[Role] | None = Field(default=None, min_length=1)
    site_id: str | None = None
    grants: list[str] | None = Field(default=None, max_length=100)
    disabled: bool | None = None

    @property
    def changes_rights(self) -> bool:
        return self.roles is not None or self.site_id is not None or self.grants is not None


class SessionsEnded(BaseModel):
    ended: int


class UserRoutes:
    """`sessions_changed` is told when sessions may have ended, so that their live events end too."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        identity: Identity,
        passwords: Passwords,
        authorisation: Authorisation,
        sessions_changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._identity = identity
        self._passwords = passwords
        self._authorisation = authorisation
        self._sessions_changed = sessions_changed

    @property
    def routes(self) -> tuple[Route, ...]:
        view, manage, one = Action.VIEW_USERS, Action.MANAGE_USERS, f"{USERS}/{{id}}"
        return (
            Route("GET", USERS, self.list_users, "Users", view, returns=list[AccountOut], filtered=True),
            Route(
                "POST", USERS, self.add, "Add a user", manage, self._new, NewAccount, AccountOut, status=201
            ),
            Route(
                "PATCH",
                one,
                self.change,
                "Change, disable or enable a user, or reset the password",
                manage,
                self._user,
                AccountPatch,
                AccountOut,
            ),
            Route(
                "DELETE",
                f"{one}/sessions",
                self.end_sessions,
                "End every session of a user",
                Action.END_SESSIONS,
                self._user,
                returns=SessionsEnded,
            ),
        )

    # --- permission ---------------------------------------------------------------------------------

    async def _new(self, exchange: Exchange) -> Resource:
        return Resource("user", None, exchange.parsed(NewAccount).site_id)

    async def _user(self, exchange: Exchange) -> Resource:
        async with self._database.reading() as tx:
            user = await _get(tx, exchange)
        return Resource("user", user.id, user.site_id)

    def _permit_rights(self, exchange: Exchange, user_id: str | None, roots: set[str]) -> None:
        """May the actor grant roles to this user, and hand out each of these subtrees?"""
        for root in sorted(roots):
            if root not in self._authorisation.tree:
                raise bad_request(f"there is no site {root!r}")
            resource = Resource("user", user_id, root)
            decision = self._authorisation.allowed(exchange.who, Action.GRANT_ROLES, resource)
            if not decision:
                raise forbidden(decision.reason)

    def _permit_reach(self, exchange: Exchange, user: User) -> None:
        """An account that reaches beyond the actor's jurisdiction is not the actor's to take over."""
        within = self._authorisation.sites(exchange.who, Action.MANAGE_USERS)
        beyond = sorted(({user.site_id} | user.grants) - within)
        if beyond:
            raise forbidden(f"{user.name} also acts in {', '.join(beyond)}, outside your jurisdiction")

    # --- handlers -----------------------------------------------------------------------------------

    async def list_users(self, exchange: Exchange) -> list[AccountOut]:
        visible = self._authorisation.sites(exchange.who, Action.VIEW_USERS)
        async with self._database.reading() as tx:
            users = await UserRepository(tx).all()
        return [_out(user) for user in users if user.site_id in visible]

    async def add(self, exchange: Exchange) -> AccountOut:
        wanted = exchange.parsed(NewAccount)
        self._permit_rights(exchange, None, {wanted.site_id, *wanted.grants})
        try:
            user = await new_user(
                self._passwords,
                self._clock,
                name=wanted.name,
                password=wanted.password,
                roles=frozenset(wanted.roles),
                site_id=wanted.site_id,
                display_name=wanted.display_name,
                grants=frozenset(wanted.grants) - {wanted.site_id},
            )
            async with self._database.transaction() as tx:
                await UserRepository(tx).add(user)
                await self._audit(tx, exchange, "add-user", user, _rights(user))
        except (WeakPassword, UserNameError, RolesConflict) as error:
            raise _unfit(error) from None
        except UserTaken as error:
            raise Problem(409, "Name taken", str(error)) from None
        return _out(user)

    async def change(self, exchange: Exchange) -> AccountOut:
        wanted = exchange.parsed(AccountPatch)
        async with self._database.reading() as tx:
            user = await _get(tx, exchange)
        self._check_change(exchange, user, wanted)
        changes = wanted.model_dump(exclude={"password"}, exclude_none=True, mode="json")
        if changes:
            user = await self._store(exchange, wanted, changes)
        if wanted.password is not None:
            await self._identity.reset_password(exchange.who, user.id, wanted.password, exchange.address)
        self._sessions_changed()
        async with self._database.reading() as tx:
            return _out(await _get(tx, exchange))

    def _check_change(self, exchange: Exchange, user: User, wanted: AccountPatch) -> None:
        """All that can be wrong with a change, before any of it is done."""
        self._permit_reach(exchange, user)
        own = user.id == exchange.who.user_id
        if own and wanted.disabled:
            raise conflict("nobody disables their own account; another security administrator can")
        if own and wanted.password is not None:
            raise conflict("your own password is changed at /api/v1/session/password")
        if wanted.changes_rights:
            roots = {wanted.site_id or user.site_id, *(wanted.grants or ())}
            self._permit_rights(exchange, user.id, roots)
        try:
            if wanted.roles is not None:
                check_roles(wanted.roles)
            if wanted.password is not None:
                check_password(wanted.password, user.name)
        except (WeakPassword, RolesConflict) as error:
            raise _unfit(error) from None

    async def _store(self, exchange: Exchange, wanted: AccountPatch, changes: dict[str, Any]) -> User:
        """One transaction for the change, the end of a disabled user's sessions, and the audit row."""
        async with self._database.transaction() as tx:
            before = await _get(tx, exchange)
            user = _changed(before, wanted)
            await UserRepository(tx).update(user)
            if before.enabled and not user.enabled:
                changes["sessions_ended"] = await SessionRepository(tx).remove_of(user.id)
            await self._audit(tx, exchange, "change-user", user, {**changes, "before": _rights(before)})
        return user

    async def end_sessions(self, exchange: Exchange) -> SessionsEnded:
        async with self._database.reading() as tx:
            user = await _get(tx, exchange)
        self._permit_reach(exchange, user)
        ended = await self._identity.end_sessions(exchange.who, user.id, exchange.address)
        self._sessions_changed()
        return SessionsEnded(ended=ended)

    async def _audit(
        self, tx: Transaction, exchange: Exchange, action: str, user: User, detail: dict[str, Any]
    ) -> None:
        entry = AuditEntry(exchange.name, action, f"user:{user.name}", "done", exchange.address, detail)
        await AuditTrail(tx, self._clock).append(entry)


async def _get(tx: Transaction, exchange: Exchange) -> User:
    user_id = exchange.path["id"]
    user = await UserRepository(tx).get(user_id)
    if user is None:
        raise not_found(f"there is no user {user_id}")
    return user


def _changed(user: User, wanted: AccountPatch) -> User:
    site_id = wanted.site_id or user.site_id
    grants = user.grants if wanted.grants is None else frozenset(wanted.grants)
    return replace(
        user,
        display_name=wanted.display_name or user.display_name,
        roles=user.roles if wanted.roles is None else frozenset(wanted.roles),
        site_id=site_id,
        grants=grants - {site_id},
        enabled=user.enabled if wanted.disabled is None else not wanted.disabled,
    )


def _unfit(error: WeakPassword | UserNameError | RolesConflict) -> Problem:
    titles = {WeakPassword: "Weak password", UserNameError: "Unfit name", RolesConflict: "Roles conflict"}
    return Problem(422, titles[type(error)], str(error))


def _rights(user: User) -> dict[str, Any]:
    return {
        "roles": sorted(user.roles),
        "site_id": user.site_id,
        "grants": sorted(user.grants),
        "disabled": not user.enabled,
    }


def _out(user: User) -> AccountOut:
    return AccountOut(
        id=user.id,
        name=user.name,
        display_name=user.display_name,
        roles=sorted(user.roles),
        site_id=user.site_id,
        grants=sorted(user.grants),
        disabled=not user.enabled,
        created_at=user.created_at,
        password_changed_at=user.password_changed_at,
    )
