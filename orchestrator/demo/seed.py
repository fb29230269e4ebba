"""What the demonstration's database holds: a tree of five levels with its lines, an account a role, a room.

    secrets = read_secrets(data / "accounts.json")      made at the first run, the same ever after
    secrets = await seed(settings, secrets)             before the node starts; safe to repeat
    write_secrets(data / "accounts.json", secrets)      mode 0600

What a visitor changed stays, except that the accounts shown at the start get their shown passwords back.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from config.settings import Settings
from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Role
from foundation.clock import SystemClock
from foundation.database import Database
from foundation.identity import WeakPassword, check_password, new_user
from foundation.migration import migrate
from foundation.passwords import Passwords
from foundation.repositories.sites import Link, Site, SiteRepository, sip_account
from foundation.repositories.users import User, UserRepository
from foundation.secrets import SecretBox
from orchestrator.control import StartFailure

ACTOR = "console:demo"
HOME = "nanning"
NUMBER = "800800"
TITLE = "南宁市安全生产视频会商"
ROOM_ACCOUNT, ROOM_NAME = "wuming-room", "武鸣区会议室"
STAND_IN = "mine-room"
"""The enterprise's terminal, which plays the other side where no browser is installed."""

SITES = (
    Site("nation", "国家", "nation"),
    Site("guangxi", "广西壮族自治区", "province", "nation"),
    Site("nanning", "南宁市", "city", "guangxi"),
    Site("wuming", "武鸣区", "county", "nanning"),
    Site("wuming-mine", "武鸣煤矿", "enterprise", "wuming"),
)
LINKS = (
    Link("nation-guangxi", "nation", "guangxi", 200_000_000),
    Link("guangxi-nanning", "guangxi", "nanning", 50_000_000),
    Link("nanning-wuming", "nanning", "wuming", 20_000_000),
    Link("wuming-mine-line", "wuming", "wuming-mine", 10_000_000),
)
SIP_ACCOUNTS = {ROOM_ACCOUNT: "wuming", STAND_IN: "wuming-mine"}


@dataclass(frozen=True, slots=True)
class Account:
    """`site_id` is the account's jurisdiction; in a meeting it is the site whose budget counts."""

    name: str
    display_name: str
    role: Role
    site_id: str
    grants: frozenset[str] = frozenset()


ACCOUNTS = (
    Account("sysadmin", "系统管理员", Role.SYSTEM_ADMIN, "nation"),
    Account("secadmin", "安全管理员", Role.SECURITY_ADMIN, "nation"),
    Account("auditor", "审计员", Role.AUDITOR, "nation"),
    Account("operator", "会议操作员", Role.OPERATOR, HOME),
    Account("monitor", "监控员", Role.MONITOR, "guangxi"),
    # An enterprise sees no more than itself; the grant lets it into the city's meetings.
    Account("viewer", "武鸣煤矿调度室", Role.VIEWER, "wuming-mine", frozenset({HOME})),
)
ADMINISTRATOR, MONITOR, OPERATOR, VIEWER = "sysadmin", "monitor", "operator", "viewer"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords of users and of SIP accounts by name, and the meeting's PIN.

    `hashes` are the users' stored hashes as we left them: another one there means another password.
    """

    users: dict[str, str]
    terminals: dict[str, str]
    pin: str
    hashes: dict[str, str]


def read_secrets(path: Path) -> Secrets:
    """Those of the file, new ones for what it lacks. Raises StartFailure when it cannot be used."""
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Secrets)
    except FileNotFoundError:
        known = Secrets({}, {}, f"{secrets.randbelow(900_000) + 100_000}", {})
    except (OSError, msgspec.DecodeError) as error:
        raise StartFailure(f"{path} cannot be used: {error}; delete it for new passwords") from None
    return Secrets(
        {account.name: known.users.get(account.name) or _password(account.name) for account in ACCOUNTS},
        {name: known.terminals.get(name) or _password(name) for name in SIP_ACCOUNTS},
        known.pin,
        known.hashes,
    )


def write_secrets(path: Path, known: Secrets) -> None:
    """Whole or not at all, and never readable by others."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(known)))
    part.replace(path)


def _password(name: str) -> str:
    """Easy to type from a screen: no letters and digits that look alike, about 58 bits."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    while True:
        groups = ("".join(secrets.choice(letters) for _ in range(4)) for _ in range(3))
        password = "-".join(groups)
        try:
            check_password(password, name)
        except WeakPassword:
            continue
        return password


async def seed(settings: Settings, known: Secrets) -> Secrets:
    """Bring the node's database to what the module's head says. Raises DatabaseError."""
    await migrate(settings.database_url, key_file=settings.key_file)
    database = Database(settings.database_url, secrets=SecretBox.load(settings.key_file))
    passwords, clock = Passwords(), SystemClock()
    try:
        async with database.reading() as tx:
            users = UserRepository(tx)
            present = {account.name: await users.by_name(account.name) for account in ACCOUNTS}
        new: list[User] = []
        reset: list[User] = []
        for account in ACCOUNTS:
            user = present[account.name]
            if user is None:
                new.append(await _user(passwords, clock, account, known.users[account.name]))
            elif user.password_hash != known.hashes.get(account.name):
                hashed = await passwords.hash(known.users[account.name])
                reset.append(replace(user, password_hash=hashed))
        async with database.transaction() as tx:
            await _seed_tree(SiteRepository(tx), settings.node.id, known)
            await _seed_users(UserRepository(tx), AuditTrail(tx, clock), clock.now(), new, reset)
    finally:
        await database.aclose()
        passwords.close()
    return replace(known, hashes={**known.hashes, **{user.name: user.password_hash for user in new + reset}})


async def _seed_users(
    users: UserRepository, audit: AuditTrail, now: datetime, new: list[User], reset: list[User]
) -> None:
    for user in new:
        await users.add(user)
        await audit.append(AuditEntry(ACTOR, "add-user", f"user:{user.name}", "done"))
    for user in reset:
        await users.set_password(user.id, user.password_hash, now)
        await audit.append(AuditEntry(ACTOR, "reset-password", f"user:{user.name}", "done"))


async def _user(passwords: Passwords, clock: SystemClock, account: Account, password: str) -> User:
    return await new_user(
        passwords,
        clock,
        name=account.name,
        password=password,
        roles=frozenset({account.role}),
        site_id=account.site_id,
        display_name=account.display_name,
        grants=account.grants,
    )


async def _seed_tree(sites: SiteRepository, realm: str, known: Secrets) -> None:
    present = {site.id for site in await sites.all()}
    for site in SITES:
        if site.id not in present:
            await sites.save(site)
    joined = {link.lower_site_id for link in await sites.links()}
    for link in LINKS:
        if link.lower_site_id not in joined:
            await sites.save_link(link)
    for name, site_id in SIP_ACCOUNTS.items():
        await sites.save_sip_account(sip_account(name, realm, known.terminals[name], site_id))
