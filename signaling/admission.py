"""What a participant may use of its site's budget and of the links on its way.

A pure ledger. Every participant's media is counted on its site and on each link between the site and
the meeting's host, each direction apart, in bit/s of IP packets. What does not fit is granted lower;
what cannot fit is refused, naming the link, its capacity, what it carries and what was asked. A
site's own budget is shared by those who call from it: a newcomer lowers the others to an equal share.

A camera is another matter: nobody can make it send less, so that it fits as a whole or is refused. It uses
the links beside the calls, and of its site the access capacity, not the conference budget. It climbs a link
once, however many meetings show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from foundation.desks import Budget
from foundation.repositories.sites import Link
from foundation.site_tree import NoPath, SiteTree

# Sound in G.711 with its headers and RTCP, and a picture that still shows who is there.
MINIMUM_BPS = 160_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A participant who wants in: where it is, where the meeting is, what it would use.

    `camera` is the id of the camera that the participant is, None for one who calls.
    """

    participant_id: str
    site_id: str | None
    host_site_id: str
    wanted: Budget
    camera: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """What stands in the way: a link's or a site's capacity, in the direction that is short."""

    name: str
    kind: str
    capacity_bps: int
    carried_bps: int
    asked_bps: int

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.name} is full: capacity {_rate(self.capacity_bps)}, "
            f"carries {_rate(self.carried_bps)}, asked {_rate(self.asked_bps)}"
        )


class NotAdmitted(Exception):
    """The participant cannot fit; `limit` names what is full."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(str(limit))
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Grant:
    """What a participant got, the limit that made it less than asked, and whom it lowered at its site."""

    budget: Budget
    lowered_by: Limit | None = None
    others: dict[str, Budget] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Holding:
    ask: Ask
    budget: Budget

    def rate(self, *, to_site: bool) -> int:
        return self.budget.to_site_bps if to_site else self.budget.from_site_bps


class Admission:
    """The ledger of a node. Not shared between threads; every method is instant."""

    def __init__(
        self, sites: SiteTree, links: Iterable[Link], site_budgets: Mapping[str, int], guest_budget_bps: int
    ) -> None:
        self._guest_budget_bps = guest_budget_bps
        self._held: dict[str, _Holding] = {}
        self.replace_tree(sites, links, site_budgets)

    def replace_tree(
        self,
        sites: SiteTree,
        links: Iterable[Link],
        site_budgets: Mapping[str, int],
        access_capacities: Mapping[str, int] | None = None,
    ) -> None:
        """The tree was edited. What is held stays held, even where a capacity shrank below it.

        A site without an access capacity limits its cameras by its links only.
        """
        self._sites = sites
        self._links = {(link.upper_site_id, link.lower_site_id): link for link in links}
        self._site_budgets = dict(site_budgets)
        self._access_capacities = dict(access_capacities or {})

    def access_bps(self, site_id: str | None) -> int | None:
        """What a site's cameras may use of its access; None where no limit is known."""
        return None if site_id is None else self._access_capacities.get(site_id)

    def admit(self, ask: Ask) -> Grant:
        """Grant at most what was asked; raises `NotAdmitted`. Asked again, it replaces the old grant."""
        if ask.camera is not None:
            self._fit_camera(ask)
            self._held[ask.participant_id] = _Holding(ask, ask.wanted)
            return Grant(ask.wanted)
        outgoing, others_out, lowered_out = self._fit(ask, to_site=True)
        incoming, others_in, lowered_in = self._fit(ask, to_site=False)
        budget = Budget(to_site_bps=outgoing, from_site_bps=incoming)
        self._held[ask.participant_id] = _Holding(ask, budget)
        others = {}
        for participant_id in others_out.keys() | others_in.keys():
            holding = self._held[participant_id]
            lowered = Budget(
                others_out.get(participant_id, holding.budget.to_site_bps),
                others_in.get(participant_id, holding.budget.from_site_bps),
            )
            self._held[participant_id] = replace(holding, budget=lowered)
            others[participant_id] = lowered
        return Grant(budget, lowered_out or lowered_in, others)

    def restore(self, ask: Ask, budget: Budget) -> None:
        """Put back what a running participant held, whatever it lowers."""
        self._held[ask.participant_id] = _Holding(ask, budget)

    def held(self, participant_id: str) -> Budget | None:
        """What a participant's media is counted with now."""
        holding = self._held.get(participant_id)
        return None if holding is None else holding.budget

    def release(self, participant_id: str) -> None:
        self._held.pop(participant_id, None)

    def carried_bps(self, link_id: str) -> int:
        """What the link carries in its fuller direction."""
        link = next((link for link in self._links.values() if link.id == link_id), None)
        if link is None:
            return 0
        everyone = list(self._held.values())
        return max(self._carried(link, everyone, down=down) for down in (True, False))

    def _carried(self, link: Link, holdings: Iterable[_Holding], *, down: bool) -> int:
        """What goes down the link, or up: to those whose site is below it, and from those above."""
        crossing = []
        for holding in holdings:
            below = self._path(holding.ask).get(link)
            if below is not None:
                crossing.append((holding, holding.rate(to_site=below is down)))
        return _together(crossing)

    def _fit_camera(self, ask: Ask) -> None:
        """Raises NotAdmitted unless the whole of the camera's picture fits on every link and at its site."""
        asked = ask.wanted.from_site_bps
        others = [h for h in self._others(ask) if h.ask.camera != ask.camera]
        limits = [
            Limit(link.id, "link", link.capacity_bps, self._carried(link, others, down=not below), asked)
            for link, below in self._path(ask).items()
        ]
        access = self.access_bps(ask.site_id)
        if access is not None and ask.site_id is not None:
            mates = [
                (h, h.budget.from_site_bps)
                for h in others
                if h.ask.camera is not None and h.ask.site_id == ask.site_id
            ]
            limits.append(Limit(ask.site_id, "access of site", access, _together(mates), asked))
        tightest = min(limits, key=_free, default=None)
        if tightest is not None and _free(tightest) < asked:
            raise NotAdmitted(tightest)

    def _fit(self, ask: Ask, *, to_site: bool) -> tuple[int, dict[str, int], Limit | None]:
        """The most that fits in one direction, whom that lowers, and what limited it."""
        asked = ask.wanted.to_site_bps if to_site else ask.wanted.from_site_bps
        others = self._others(ask)
        limits = [
            Limit(
                link.id, "link", link.capacity_bps, self._carried(link, others, down=below is to_site), asked
            )
            for link, below in self._path(ask).items()
        ]
        tightest = min(limits, key=_free, default=None)
        if tightest is not None and _free(tightest) < min(asked, MINIMUM_BPS):
            raise NotAdmitted(tightest)
        fits = asked if tightest is None else min(asked, _free(tightest))
        lowered_by = None if fits == asked else tightest
        site = self._site_limit(ask, asked, to_site=to_site)
        if _free(site) >= fits:
            return fits, {}, lowered_by
        held = {
            h.ask.participant_id: h.rate(to_site=to_site)
            for h in others
            if ask.site_id is not None and h.ask.site_id == ask.site_id and h.ask.camera is None
        }
        share = _equal_share(site.capacity_bps, [*held.values(), fits])
        if share < min(asked, MINIMUM_BPS):
            raise NotAdmitted(site)
        lowered = {participant_id: share for participant_id, rate in held.items() if rate > share}
        return min(fits, share), lowered, site if share < fits else lowered_by

    def _site_limit(self, ask: Ask, asked: int, *, to_site: bool) -> Limit:
        if ask.site_id is None:
            return Limit("guest", "budget of", self._guest_budget_bps, 0, asked)
        capacity = self._site_budgets.get(ask.site_id, 0)
        callers = [h for h in self._others(ask) if h.ask.camera is None]
        carried = sum(h.rate(to_site=to_site) for h in callers if h.ask.site_id == ask.site_id)
        return Limit(ask.site_id, "budget of site", capacity, carried, asked)

    def _others(self, ask: Ask) -> list[_Holding]:
        return [h for key, h in self._held.items() if key != ask.participant_id]

    def _path(self, ask: Ask) -> dict[Link, bool]:
        """The links between the participant's site and the host of its meeting, and whether the site is
        below each."""
        if ask.site_id is None or ask.site_id not in self._sites or ask.host_site_id not in self._sites:
            return {}
        try:
            path = self._sites.path(ask.site_id, ask.host_site_id)
        except NoPath:
            return {}  # a grant across trees: no line of ours lies between them
        steps = pairwise(path)
        found = [self._links.get((a, b)) or self._links.get((b, a)) for a, b in steps]
        links = [link for link in found if link is not None]
        return {link: path.index(link.lower_site_id) < path.index(link.upper_site_id) for link in links}


def _together(holdings: Iterable[tuple[_Holding, int]]) -> int:
    """The sum of the rates, where a camera that several meetings show counts once."""
    rates: dict[str, int] = {}
    for holding, rate in holdings:
        camera = holding.ask.camera
        key = holding.ask.participant_id if camera is None else f"camera:{camera}"
        rates[key] = max(rates.get(key, 0), rate)
    return sum(rates.values())


def _free(limit: Limit) -> int:
    return limit.capacity_bps - limit.carried_bps


def _equal_share(capacity: int, wants: list[int]) -> int:
    """The level to which the greatest wants are cut so that all of them fit together."""
    waiting = sorted(wants)
    left = capacity
    while waiting:
        share = max(left, 0) // len(waiting)
        if waiting[0] > share:
            return share
        left -= waiting.pop(0)
    return max(left, 0)


def _rate(bits_per_second: int) -> str:
    return f"{bits_per_second / 1_000_000:g} Mbit/s"
