"""Sites, links, callers' addresses and SIP accounts over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Authorisation, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.http_edge import Exchange, Route, bad_request, not_found
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


class SiteOut(BaseModel):
    id: str
    parent_id: str | None
    name: str
    kind: str
    conference_budget_bps: int
    access_capacity_bps: int


class NewSite(BaseModel):
    id: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$")
    parent_id: str | None
    name: str = Field(min_length=1, max_length=200)
    kind: str = Field(min_length=1, max_length=40)
    conference_budget_bps: int = Field(default=3_000_000, ge=0)
    access_capacity_bps: int = Field(default=20_000_000, ge=0)


class SitePatch(BaseModel):
    name: str | None = Field(default=None, min_length=1, max_length=200)
    kind: str | None = Field(default=None, min_length=1, max_length=40)
    conference_budget_bps: int | None = Field(default=None, ge=0)
    access_capacity_bps: int | None = Field(default=None, ge=0)


class LinkOut(BaseModel):
    id: str
    upper_site_id: str
    lower_site_id: str
    capacity_bps: int
    carried_bps: int


class NewLink(BaseModel):
    id: str = Field(min_length=1, max_length=64)
    upper_site_id: str
    lower_site_id: str
    capacity_bps: int = Field(gt=0)


class LinkPatch(BaseModel):
    capacity_bps: int = Field(gt=0)


class NewAddress(BaseModel):
    network: str
    prefix: str


class NewSipAccount(BaseModel):
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=8, max_length=256)


class SiteRoutes:
    """`changed` is awaited after every change, so that ledgers and permission follow the tree."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        authorisation: Authorisation,
        carried_bps: Callable[[str], int],
        changed: Callable[[], Awaitable[None]],
        realm: str,
    ) -> None:
        self._database = database
        self._clock = clock
        self._authorisation = authorisation
        self._carried_bps = carried_bps
        self._changed = changed
        self._realm = realm

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
        return Resource("site", exchange.path["id"], exchange.path["id"])

    async def _parent(self, exchange: Exchange) -> Resource:
        wanted = exchange.parsed(NewSite)
        return Resource("site", wanted.id, wanted.parent_id)

    async def _new_link(self, exchange: Exchange) -> Resource:
        wanted = exchange.parsed(NewLink)
        return Resource("link", wanted.id, wanted.upper_site_id)

    async def _link(self, exchange: Exchange) -> Resource:
        link = await self._find_link(exchange.path["id"])
        return Resource("link", link.id, link.upper_site_id)

    async def _find_link(self, link_id: str) -> Link:
        async with self._database.reading() as tx:
            links = await SiteRepository(tx).links()
        found = next((link for link in links if link.id == link_id), None)
        if found is None:
            raise not_found(f"there is no link {link_id!r}")
        return found

    async def list_sites(self, exchange: Exchange) -> list[SiteOut]:
        visible = self._authorisation.sites(exchange.who, Action.VIEW_SITES)
        async with self._database.reading() as tx:
            sites = await SiteRepository(tx).all()
        return [_site_out(site) for site in sites if site.id in visible]

    async def add(self, exchange: Exchange) -> SiteOut:
        wanted = exchange.parsed(NewSite)
        site = Site(**wanted.model_dump())
        async with self._database.reading() as tx:
            if await SiteRepository(tx).get(site.id) is not None:
                raise bad_request(f"id: there is already a site {site.id!r}")
        await self._save(exchange, "add-site", site)
        return _site_out(site)

    async def change(self, exchange: Exchange) -> SiteOut:
        async with self._database.reading() as tx:
            site = await SiteRepository(tx).get(exchange.path["id"])
        if site is None:
            raise not_found(f"there is no site {exchange.path['id']!r}")
        changes = exchange.parsed(SitePatch).model_dump(exclude_none=True)
        changed = Site(**{**_site_out(site).model_dump(), **changes})
        await self._save(exchange, "change-site", changed)
        return _site_out(changed)

    async def _save(self, exchange: Exchange, action: str, site: Site) -> None:
        async def write(repository: SiteRepository) -> None:
            await repository.save(site)

        await self._write(exchange, action, f"site:{site.id}", _site_out(site).model_dump(), write)

    async def _write(
        self,
        exchange: Exchange,
        action: str,
        subject: str,
        detail: dict[str, Any],
        write: Callable[[SiteRepository], Awaitable[None]],
    ) -> None:
        """One transaction for the change and its audit row; a value that cannot be is the caller's error."""
        entry = AuditEntry(exchange.name, action, subject, "done", exchange.address, detail)
        try:
            async with self._database.transaction() as tx:
                await write(SiteRepository(tx))
                await AuditTrail(tx, self._clock).append(entry)
        except (SiteValueError, SiteTreeError) as error:
            raise bad_request(str(error)) from None
        await self._changed()

    async def add_address(self, exchange: Exchange) -> None:
        wanted = exchange.parsed(NewAddress)
        address = SiteAddress(wanted.network, wanted.prefix, exchange.path["id"])

        async def write(repository: SiteRepository) -> None:
            await repository.save_address(address)

        await self._write(exchange, "add-address", f"site:{address.site_id}", wanted.model_dump(), write)

    async def add_account(self, exchange: Exchange) -> None:
        wanted = exchange.parsed(NewSipAccount)
        site_id = exchange.path["id"]
        account = sip_account(wanted.username, self._realm, wanted.password, site_id)

        async def write(repository: SiteRepository) -> None:
            await repository.save_sip_account(account)

        detail = {"username": wanted.username, "realm": self._realm}
        await self._write(exchange, "add-sip-account", f"site:{site_id}", detail, write)

    async def list_links(self, exchange: Exchange) -> list[LinkOut]:
        visible = self._authorisation.sites(exchange.who, Action.VIEW_SITES)
        async with self._database.reading() as tx:
            links = await SiteRepository(tx).links()
        return [self._link_out(link) for link in links if link.lower_site_id in visible]

    async def add_link(self, exchange: Exchange) -> LinkOut:
        link = Link(**exchange.parsed(NewLink).model_dump())
        await self._save_link(exchange, "add-link", link)
        return self._link_out(link)

    async def change_link(self, exchange: Exchange) -> LinkOut:
        link = await self._find_link(exchange.path["id"])
        capacity = exchange.parsed(LinkPatch).capacity_bps
        changed = Link(link.id, link.upper_site_id, link.lower_site_id, capacity)
        await self._save_link(exchange, "change-link", changed)
        return self._link_out(changed)

    async def _save_link(self, exchange: Exchange, action: str, link: Link) -> None:
        async def write(repository: SiteRepository) -> None:
            await repository.save_link(link)

        detail = {
            "upper": link.upper_site_id,
            "lower": link.lower_site_id,
            "capacity_bps": link.capacity_bps,
        }
        await self._write(exchange, action, f"link:{link.id}", detail, write)

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
