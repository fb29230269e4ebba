"""Sites, links, callers' addresses and SIP accounts over HTTP."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.http_edge import Exchange, Route, Wanted, bad_request, conflict, not_found
from foundation.repositories.sites import (
    Link,
    Site,
    SiteAddress,
    SiteRepository,
    SiteValueError,
    sip_account,
)
from foundation.site_tree import SiteTreeError

SITES, LINKS = "/api/v1/sites", "/api/v1/links"
SLUG = r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"
MAX_BPS = 1_000_000_000_000


class SiteOut(BaseModel):
    id: str
    parent_id: str | None
    name: str
    kind: str
    conference_budget_bps: int
    access_capacity_bps: int


class NewSite(Wanted):
    id: str = Field(pattern=SLUG)
    parent_id: str | None
    name: str = Field(min_length=1, max_length=200)
    kind: str = Field(min_length=1, max_length=40)
    conference_budget_bps: int = Field(default=3_000_000, ge=0, le=MAX_BPS)
    access_capacity_bps: int = Field(default=20_000_000, ge=0, le=MAX_BPS)


class SitePatch(Wanted):
    name: str | None = Field(default=None, min_length=1, max_length=200)
    kind: str | None = Field(default=None, min_length=1, max_length=40)
    conference_budget_bps: int | None = Field(default=None, ge=0, le=MAX_BPS)
    access_capacity_bps: int | None = Field(default=None, ge=0, le=MAX_BPS)


class LinkOut(BaseModel):
    id: str
    upper_site_id: str
    lower_site_id: str
    capacity_bps: int
    carried_bps: int


class NewLink(Wanted):
    id: str | None = Field(default=None, pattern=SLUG, description="UPPER--LOWER when absent")
    upper_site_id: str
    lower_site_id: str
    capacity_bps: int = Field(gt=0, le=MAX_BPS)


class LinkPatch(Wanted):
    capacity_bps: int = Field(gt=0, le=MAX_BPS)


class NewAddress(Wanted):
    network: str
    prefix: str


class NewSipAccount(Wanted):
    username: str = Field(pattern=r"^[A-Za-z0-9._~!$&'()*+,;=@-]{1,128}$")
    password: str = Field(min_length=8, max_length=256)


class SiteRoutes:
    """`changed` is awaited after every change, so that ledgers and permission follow the tree.

    `networks` are the names of this node's networks, `realm` that of its SIP digest.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        carried_bps: Callable[[str], int],
        changed: Callable[[], Awaitable[None]],
        realm: str,
        networks: Collection[str],
    ) -> None:
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._carried_bps = carried_bps
        self._changed = changed
        self._realm = realm
        self._networks = frozenset(networks)

    @property
    def routes(self) -> tuple[Route, ...]:
        view, sites, links = Action.VIEW_SITES, Action.MANAGE_SITES, Action.MANAGE_LINKS
        one = f"{SITES}/{{id}}"
        return (
            Route("GET", SITES, self.list_sites, "Sites", view, returns=list[SiteOut], filtered=True),
            Route("POST", SITES, self.add, "Add a site", sites, self._parent, NewSite, SiteOut, status=201),
            Route("PATCH", one, self.change, "Change a site", sites, self._site, SitePatch, SiteOut),
            Route(
                "POST",
                f"{one}/addresses",
                self.add_address,
                "Callers from this address are the site",
                sites,
                self._site,
                NewAddress,
                status=204,
            ),
            Route(
                "POST",
                f"{one}/sip-accounts",
                self.add_account,
                "Digest credentials of a terminal of the site",
                sites,
                self._site,
                NewSipAccount,
                status=204,
            ),
            Route("GET", LINKS, self.list_links, "Links", view, returns=list[LinkOut], filtered=True),
            Route("POST", LINKS, self.add_link, "Add a link", links, self._new_link, NewLink, LinkOut, 201),
            Route(
                "PATCH",
                f"{LINKS}/{{id}}",
                self.change_link,
                "Change a link's capacity",
                links,
                self._link,
                LinkPatch,
                LinkOut,
            ),
        )

    async def _site(self, exchange: Exchange) -> Resource:
        site_id = exchange.path["id"]
        if site_id not in self._authorisation.tree:
            raise not_found(f"there is no site {site_id!r}")
        return Resource("site", site_id, site_id)

    async def _parent(self, exchange: Exchange) -> Resource:
        """A new root is the whole node's affair; any other site its parent's."""
        wanted = exchange.parsed(NewSite)
        if wanted.parent_id is not None:
            self._known("parent_id", wanted.parent_id)
        return Resource("site", wanted.id, wanted.parent_id)

    async def _new_link(self, exchange: Exchange) -> Resource:
        wanted = exchange.parsed(NewLink)
        self._known("upper_site_id", wanted.upper_site_id)
        self._known("lower_site_id", wanted.lower_site_id)
        return Resource("link", wanted.id, wanted.upper_site_id)

    def _known(self, field: str, site_id: str) -> None:
        if site_id not in self._authorisation.tree:
            raise bad_request(f"{field}: there is no site {site_id!r}")

    async def _link(self, exchange: Exchange) -> Resource:
        async with self._database.reading() as tx:
            link = await _find_link(SiteRepository(tx), exchange.path["id"])
        return Resource("link", link.id, link.upper_site_id)

    # --- sites --------------------------------------------------------------------------------------

    async def list_sites(self, exchange: Exchange) -> list[SiteOut]:
        visible = self._authorisation.sites(exchange.who, Action.VIEW_SITES)
        async with self._database.reading() as tx:
            sites = await SiteRepository(tx).all()
        return [_site_out(site) for site in sites if site.id in visible]

    async def add(self, exchange: Exchange) -> SiteOut:
        site = Site(**exchange.parsed(NewSite).model_dump())

        async def write(repository: SiteRepository) -> dict[str, Any]:
            if await repository.get(site.id) is not None:
                raise conflict(f"there is already a site {site.id!r}")
            await repository.save(site)
            return _site_out(site).model_dump()

        await self._write(exchange, "add-site", f"site:{site.id}", write)
        return _site_out(site)

    async def change(self, exchange: Exchange) -> SiteOut:
        site_id = exchange.path["id"]
        changes = exchange.parsed(SitePatch).model_dump(exclude_none=True)

        async def write(repository: SiteRepository) -> dict[str, Any]:
            site = await repository.get(site_id)
            if site is None:
                raise not_found(f"there is no site {site_id!r}")
            await repository.save(replace(site, **changes))
            return {**changes, "before": {key: getattr(site, key) for key in changes}}

        await self._write(exchange, "change-site", f"site:{site_id}", write)
        async with self._database.reading() as tx:
            changed = await SiteRepository(tx).get(site_id)
        if changed is None:
            raise not_found(f"there is no site {site_id!r}")
        return _site_out(changed)

    async def _write(
        self,
        exchange: Exchange,
        action: str,
        subject: str,
        write: Callable[[SiteRepository], Awaitable[dict[str, Any]]],
    ) -> None:
        """One transaction for the change and its audit row, whose detail `write` returns.

        A value that cannot be is the caller's error.
        """
        try:
            async with self._database.transaction() as tx:
                detail = await write(SiteRepository(tx))
                entry = AuditEntry(exchange.name, action, subject, "done", exchange.address, detail)
                await AuditTrail(tx, self._clock).append(entry)
        except (SiteValueError, SiteTreeError) as error:
            raise bad_request(str(error)) from None
        await self._changed()

    # --- who calls as a site ------------------------------------------------------------------------

    async def add_address(self, exchange: Exchange) -> None:
        wanted = exchange.parsed(NewAddress)
        if wanted.network not in self._networks:
            known = ", ".join(sorted(self._networks))
            raise bad_request(f"network: there is no network {wanted.network!r} (known: {known})")
        try:
            prefix = ipaddress.ip_network(wanted.prefix)
        except ValueError as error:
            raise bad_request(f"prefix: {error}") from None
        address = SiteAddress(wanted.network, prefix.with_prefixlen, exchange.path["id"])

        async def write(repository: SiteRepository) -> dict[str, Any]:
            self._check_prefix(exchange, address, await repository.addresses())
            await repository.save_address(address)
            return wanted.model_dump()

        await self._write(exchange, "add-address", f"site:{address.site_id}", write)

    def _check_prefix(self, exchange: Exchange, wanted: SiteAddress, known: Iterable[SiteAddress]) -> None:
        """Nobody takes callers from a site: not its very prefix, nor a part of one out of the own reach."""
        own = self._authorisation.sites(exchange.who, Action.MANAGE_SITES)
        prefix = ipaddress.ip_network(wanted.prefix)
        for other in known:
            if other.network != wanted.network or other.site_id == wanted.site_id:
                continue
            if other.prefix == wanted.prefix:
                raise conflict(f"{other.prefix} on {other.network} already belongs to another site")
            if other.site_id not in own and prefix.overlaps(ipaddress.ip_network(other.prefix)):
                raise conflict(f"{wanted.prefix} overlaps a prefix of a site outside your jurisdiction")

    async def add_account(self, exchange: Exchange) -> None:
        wanted = exchange.parsed(NewSipAccount)
        site_id = exchange.path["id"]
        account = sip_account(wanted.username, self._realm, wanted.password, site_id)

        async def write(repository: SiteRepository) -> dict[str, Any]:
            known = await repository.sip_account(wanted.username, self._realm)
            if known is not None and known.site_id != site_id:
                raise conflict(f"the SIP account {wanted.username!r} belongs to another site")
            await repository.save_sip_account(account)
            return {"username": wanted.username, "realm": self._realm}

        await self._write(exchange, "add-sip-account", f"site:{site_id}", write)

    # --- links --------------------------------------------------------------------------------------

    async def list_links(self, exchange: Exchange) -> list[LinkOut]:
        visible = self._authorisation.sites(exchange.who, Action.VIEW_SITES)
        async with self._database.reading() as tx:
            links = await SiteRepository(tx).links()
        return [self._link_out(link) for link in links if link.lower_site_id in visible]

    async def add_link(self, exchange: Exchange) -> LinkOut:
        wanted = exchange.parsed(NewLink)
        name = wanted.id or f"{wanted.upper_site_id}--{wanted.lower_site_id}"[:64]
        link = Link(name, wanted.upper_site_id, wanted.lower_site_id, wanted.capacity_bps)

        async def write(repository: SiteRepository) -> dict[str, Any]:
            for known in await repository.links():
                if known.id == link.id:
                    raise conflict(f"there is already a link {link.id!r}")
                if known.lower_site_id == link.lower_site_id:
                    raise conflict(
                        f"{link.lower_site_id} already has the link {known.id!r} to the site above it"
                    )
            await repository.save_link(link)
            return _link_detail(link)

        await self._write(exchange, "add-link", f"link:{link.id}", write)
        return self._link_out(link)

    async def change_link(self, exchange: Exchange) -> LinkOut:
        capacity = exchange.parsed(LinkPatch).capacity_bps
        link_id = exchange.path["id"]

        async def write(repository: SiteRepository) -> dict[str, Any]:
            link = await _find_link(repository, link_id)
            await repository.save_link(replace(link, capacity_bps=capacity))
            return {"capacity_bps": capacity, "before": _link_detail(link)}

        await self._write(exchange, "change-link", f"link:{link_id}", write)
        async with self._database.reading() as tx:
            return self._link_out(await _find_link(SiteRepository(tx), link_id))

    def _link_out(self, link: Link) -> LinkOut:
        return LinkOut(
            id=link.id,
            upper_site_id=link.upper_site_id,
            lower_site_id=link.lower_site_id,
            capacity_bps=link.capacity_bps,
            carried_bps=self._carried_bps(link.id),
        )


def _site_out(site: Site) -> SiteOut:
    return SiteOut(
        id=site.id,
        parent_id=site.parent_id,
        name=site.name,
        kind=site.kind,
        conference_budget_bps=site.conference_budget_bps,
        access_capacity_bps=site.access_capacity_bps,
    )


async def _find_link(repository: SiteRepository, link_id: str) -> Link:
    found = next((link for link in await repository.links() if link.id == link_id), None)
    if found is None:
        raise not_found(f"there is no link {link_id!r}")
    return found


def _link_detail(link: Link) -> dict[str, Any]:
    return {"upper": link.upper_site_id, "lower": link.lower_site_id, "capacity_bps": link.capacity_bps}
