"""Sites, links, the addresses and SIP accounts that identify callers as sites.

SiteRepository(tx): save, get, all, tree, remove; save_link, links, remove_link;
                    save_address, site_at, addresses, remove_address;
                    save_sip_account, sip_account, sip_accounts, remove_sip_account
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass

from sqlalchemy import delete, select

from foundation.database import Transaction
from foundation.repositories.site_callers import site_calling
from foundation.schema import LinkRow, SipAccountRow, SiteAddressRow, SiteRow
from foundation.secrets import Cell, SecretsError, secrets_of
from foundation.site_tree import SiteTree

__all__ = ["Link", "SipAccount", "Site", "SiteAddress", "SiteRepository", "SiteValueError", "sip_account"]

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


class SiteValueError(ValueError):
    """A site, link or address that cannot be stored as given; the message says which part is wrong."""


@dataclass(frozen=True, slots=True)
class Site:
    """A node of the tree. Rates are IP-level bit/s, each way."""

    id: str
    name: str
    kind: str
    parent_id: str | None = None
    conference_budget_bps: int = 3_000_000
    access_capacity_bps: int = 20_000_000


@dataclass(frozen=True, slots=True)
class Link:
    """The line between a site and the one above it, shared by meetings and surveillance; bit/s each way."""

    id: str
    upper_site_id: str
    lower_site_id: str
    capacity_bps: int


@dataclass(frozen=True, slots=True)
class SiteAddress:
    """Callers from `prefix` (CIDR, or one address) on the named network are this site."""

    network: str
    prefix: str
    site_id: str


@dataclass(frozen=True, slots=True)
class SipAccount:
    """Digest credentials as HA1 values (RFC 7616 3.4.2), hexadecimal; the password is not kept."""

    username: str
    realm: str
    ha1_md5: str
    ha1_sha256: str
    site_id: str


def sip_account(username: str, realm: str, password: str, site_id: str) -> SipAccount:
    """The account for a password that only the terminal will know from now on."""
    secret = f"{username}:{realm}:{password}".encode()
    md5 = hashlib.md5(secret, usedforsecurity=False).hexdigest()
    return SipAccount(username, realm, md5, hashlib.sha256(secret).hexdigest(), site_id)


class SiteRepository:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def save(self, site: Site) -> None:
        """Add the site, or replace the one with its id. Raises SiteValueError, SiteTreeError for a circle."""
        if not _SLUG.fullmatch(site.id):
            raise SiteValueError(f"site id {site.id!r} is not lower-case letters, digits and hyphens")
        if site.conference_budget_bps < 0 or site.access_capacity_bps < 0:
            raise SiteValueError(f"site {site.id}: a budget is not negative")
        SiteTree({**await self._parents(), site.id: site.parent_id})
        await self._tx.merge(
            SiteRow(
                id=site.id,
                parent_id=site.parent_id,
                name=site.name,
                kind=site.kind,
                conference_budget_bps=site.conference_budget_bps,
                access_capacity_bps=site.access_capacity_bps,
            )
        )
        await self._tx.flush()

    async def get(self, site_id: str) -> Site | None:
        row = await self._tx.get(SiteRow, site_id)
        return _site(row) if row else None

    async def all(self) -> tuple[Site, ...]:
        """Every site, by id."""
        return tuple(_site(row) for row in await self._tx.scalars(select(SiteRow).order_by(SiteRow.id)))

    async def tree(self) -> SiteTree:
        return SiteTree(await self._parents())

    async def remove(self, site_id: str) -> bool:
        """False when there is no such site. Raises SiteValueError when something still depends on it."""
        if await self._tx.scalar(select(SiteRow.id).where(SiteRow.parent_id == site_id).limit(1)):
            raise SiteValueError(f"site {site_id} still has sites below it")
        removed = await self._tx.execute(delete(SiteRow).where(SiteRow.id == site_id).returning(SiteRow.id))
        return removed.first() is not None

    async def save_link(self, link: Link) -> None:
        """Add or replace. Raises SiteValueError unless it joins a site to the one directly above it."""
        lower = await self._tx.get(SiteRow, link.lower_site_id)
        if lower is None or lower.parent_id != link.upper_site_id:
            raise SiteValueError(
                f"link {link.id}: {link.upper_site_id} is not directly above {link.lower_site_id}"
            )
        if link.capacity_bps <= 0:
            raise SiteValueError(f"link {link.id}: a capacity is positive")
        await self._tx.merge(
            LinkRow(
                id=link.id,
                upper_site_id=link.upper_site_id,
                lower_site_id=link.lower_site_id,
                capacity_bps=link.capacity_bps,
            )
        )
        await self._tx.flush()

    async def links(self) -> tuple[Link, ...]:
        """Every link, by id."""
        rows = await self._tx.scalars(select(LinkRow).order_by(LinkRow.id))
        return tuple(Link(row.id, row.upper_site_id, row.lower_site_id, row.capacity_bps) for row in rows)

    async def remove_link(self, link_id: str) -> bool:
        removed = await self._tx.execute(delete(LinkRow).where(LinkRow.id == link_id).returning(LinkRow.id))
        return removed.first() is not None

    async def save_address(self, address: SiteAddress) -> None:
        """Add, or give the prefix to another site. Raises SiteValueError for what is no prefix."""
        try:
            prefix = ipaddress.ip_network(address.prefix).with_prefixlen
        except ValueError as error:
            raise SiteValueError(
                f"{address.prefix!r} is neither an IP address nor a prefix: {error}"
            ) from None
        await self._tx.merge(SiteAddressRow(network=address.network, prefix=prefix, site_id=address.site_id))
        await self._tx.flush()

    async def site_at(self, network: str, address: str) -> str | None:
        """The site that calls from `address` on `network`: that of the longest prefix, None when unknown."""
        connection = await self._tx.connection()
        found = await connection.run_sync(site_calling, network, address)
        return None if found is None else found.id

    async def addresses(self) -> tuple[SiteAddress, ...]:
        order = (SiteAddressRow.network, SiteAddressRow.prefix)
        rows = await self._tx.scalars(select(SiteAddressRow).order_by(*order))
        return tuple(SiteAddress(row.network, row.prefix, row.site_id) for row in rows)

    async def remove_address(self, network: str, prefix: str) -> bool:
        removed = await self._tx.execute(
            delete(SiteAddressRow)
            .where(SiteAddressRow.network == network, SiteAddressRow.prefix == prefix)
            .returning(SiteAddressRow.prefix)
        )
        return removed.first() is not None

    async def save_sip_account(self, account: SipAccount) -> None:
        """Add, or replace the credentials of that username and realm."""
        box = secrets_of(self._tx)
        await self._tx.merge(
            SipAccountRow(
                username=account.username,
                realm=account.realm,
                ha1_md5=box.seal(_ha1_of(account.username, account.realm, "md5"), account.ha1_md5),
                ha1_sha256=box.seal(_ha1_of(account.username, account.realm, "sha256"), account.ha1_sha256),
                site_id=account.site_id,
            )
        )
        await self._tx.flush()

    async def sip_account(self, username: str, realm: str) -> SipAccount | None:
        row = await self._tx.get(SipAccountRow, (username, realm))
        return self._sip_account(row) if row else None

    async def sip_accounts(self) -> tuple[SipAccount, ...]:
        rows = await self._tx.scalars(
            select(SipAccountRow).order_by(SipAccountRow.realm, SipAccountRow.username)
        )
        return tuple(self._sip_account(row) for row in rows)

    async def remove_sip_account(self, username: str, realm: str) -> bool:
        removed = await self._tx.execute(
            delete(SipAccountRow)
            .where(SipAccountRow.username == username, SipAccountRow.realm == realm)
            .returning(SipAccountRow.username)
        )
        return removed.first() is not None

    async def _parents(self) -> dict[str, str | None]:
        found = await self._tx.execute(select(SiteRow.id, SiteRow.parent_id))
        return {row[0]: row[1] for row in found}

    def _sip_account(self, row: SipAccountRow) -> SipAccount:
        box, who = secrets_of(self._tx), (row.username, row.realm)
        md5 = box.open(_ha1_of(*who, "md5"), row.ha1_md5)
        sha256 = box.open(_ha1_of(*who, "sha256"), row.ha1_sha256)
        if not md5 or not sha256:  # an empty one would be a password that everybody knows
            raise SecretsError(f"sip_accounts of {'/'.join(who)}: its digest secret is gone; set it anew")
        return SipAccount(*who, md5, sha256, row.site_id)


def _site(row: SiteRow) -> Site:
    return Site(
        id=row.id,
        name=row.name,
        kind=row.kind,
        parent_id=row.parent_id,
        conference_budget_bps=row.conference_budget_bps,
        access_capacity_bps=row.access_capacity_bps,
    )


def _ha1_of(username: str, realm: str, digest: str) -> Cell:
    return Cell("sip_accounts", f"ha1_{digest}", (username, realm))
