"""Accounts from the command line: the first administrators of a node have nobody else to make them.

user = await add_user(settings, name="liu", password=..., roles=frozenset({Role.AUDITOR}))
await ensure_home_site(tx, settings)          the node's own site, from node.site_id, is in the tree
"""

from __future__ import annotations

import getpass

from config.settings import Settings
from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Role
from foundation.clock import SystemClock
from foundation.database import Database, Transaction
from foundation.identity import new_user
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.sites import Site, SiteRepository
from foundation.repositories.users import User, UserRepository


class NoSuchSite(ValueError):
    """The site is not in this node's tree."""


async def ensure_home_site(tx: Transaction, settings: Settings) -> Site | None:
    """The site this node belongs to, made from the node's name where it is missing; None if none is set."""
    site_id = settings.node.site_id
    if site_id is None:
        return None
    sites = SiteRepository(tx)
    site = await sites.get(site_id)
    if site is None:
        site = Site(site_id, settings.node.name, settings.node.level)
        await sites.save(site)
    return site


async def add_user(
    settings: Settings,
    *,
    name: str,
    password: str,
    roles: frozenset[Role],
    site_id: str | None = None,
    display_name: str = "",
) -> User:
    """Add a user, with a row in the audit; the node's own site unless `site_id` is given.

    Raises NoSuchSite, WeakPassword, UserNameError, UserTaken, RolesConflict, DatabaseError.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    await migrate(settings.database_url, key_file=settings.key_file)
    clock, passwords = SystemClock(), Passwords()
    database = Database(settings.database_url)
    try:
        site = site_id or settings.node.site_id
        if site is None:
            raise NoSuchSite("which site does the user belong to? Give --site, or set node.site_id")
        user = await new_user(
            passwords,
            clock,
            name=name,
            password=password,
            roles=roles,
            site_id=site,
            display_name=display_name,
        )
        async with database.transaction() as tx:
            await ensure_home_site(tx, settings)
            if await SiteRepository(tx).get(site) is None:
                known = ", ".join(known.id for known in await SiteRepository(tx).all()) or "none"
                raise NoSuchSite(f"there is no site {site!r} (known: {known})")
            await UserRepository(tx).add(user)
            detail = {"roles": sorted(user.roles), "site": site}
            actor = f"console:{getpass.getuser()}"
            await AuditTrail(tx, clock).append(
                AuditEntry(actor, "add-user", f"user:{user.name}", "done", detail=detail)
            )
        return user
    finally:
        await database.aclose()
        passwords.close()
