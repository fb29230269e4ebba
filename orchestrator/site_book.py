"""The site tree as the running process holds it: permission and admission follow the rows."""

from __future__ import annotations

from foundation.authorisation import Authorisation
from foundation.database import Database
from foundation.repositories.sites import Site, SiteRepository
from foundation.site_tree import SiteTree
from signaling.admission import Admission


class SiteBook:
    """`reload` after every change of a site or link."""

    def __init__(
        self, database: Database, authorisation: Authorisation, admission: Admission, guest_budget_bps: int
    ) -> None:
        self.authorisation = authorisation
        self.admission = admission
        self._database = database
        self._guest_budget_bps = guest_budget_bps
        self._sites: dict[str, Site] = {}

    async def reload(self) -> None:
        async with self._database.reading() as tx:
            sites = SiteRepository(tx)
            self._sites = {site.id: site for site in await sites.all()}
            links = await sites.links()
        tree = SiteTree({site.id: site.parent_id for site in self._sites.values()})
        self.authorisation.replace_tree(tree)
        budgets = {site.id: site.conference_budget_bps for site in self._sites.values()}
        access = {site.id: site.access_capacity_bps for site in self._sites.values()}
        self.admission.replace_tree(tree, links, budgets, access)

    def budget(self, site_id: str | None) -> int:
        """The conference budget of a site, bit/s each way; a guest's for None."""
        if site_id is None:
            return self._guest_budget_bps
        site = self._sites.get(site_id)
        return self._guest_budget_bps if site is None else site.conference_budget_bps
