"""The ledger: whatever comes and goes in whatever order, nothing carries more than it can, in either way."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.desks import Budget
from foundation.repositories.sites import Link
from foundation.site_tree import SiteTree
from signaling.admission import MINIMUM_BPS, Admission, Ask, Grant, NotAdmitted

PARENTS = {"nation": None, "gx": "nation", "nn": "gx", "lz": "gx", "wm": "nn", "other": None}
TREE = SiteTree(PARENTS)
LINKS = (
    Link("nation-gx", "nation", "gx", 6_000_000),
    Link("gx-nn", "gx", "nn", 4_000_000),
    Link("gx-lz", "gx", "lz", 1_500_000),
    Link("nn-wm", "nn", "wm", 2_000_000),
)
SITE_BUDGET = 3_000_000
BUDGETS = dict.fromkeys(PARENTS, SITE_BUDGET)
MBIT = 1_000_000


def ledger() -> Admission:
    return Admission(TREE, LINKS, BUDGETS, guest_budget_bps=MBIT)


def above(site: str) -> list[str]:
    """The site and those above it."""
    chain = [site]
    while (parent := PARENTS[chain[-1]]) is not None:
        chain.append(parent)
    return chain


def crosses(ask: Ask, link: Link) -> str | None:
    """On which side of a link a participant is, "below" or "above"; None if its media does not cross it."""
    if ask.site_id is None:
        return None
    inside, host_inside = (
        link.lower_site_id in above(ask.site_id),
        link.lower_site_id in above(ask.host_site_id),
    )
    if inside == host_inside or above(ask.site_id)[-1] != above(ask.host_site_id)[-1]:
        return None
    return "below" if inside else "above"


@dataclass
class Book:
    """What was granted, kept apart from the ledger; checked after every step."""

    admission: Admission = field(default_factory=ledger)
    held: dict[str, tuple[Ask, Budget]] = field(default_factory=dict)

    def admit(self, ask: Ask) -> Grant:
        grant = self.admission.admit(ask)
        self.held[ask.participant_id] = (ask, grant.budget)
        for participant_id, budget in grant.others.items():
            self.held[participant_id] = (self.held[participant_id][0], budget)
        return grant

    def release(self, participant_id: str) -> None:
        self.admission.release(participant_id)
        self.held.pop(participant_id, None)

    def check(self) -> None:
        for link in LINKS:
            down = up = 0
            for ask, budget in self.held.values():
                side = crosses(ask, link)
                if side is not None:
                    to_site, from_site = budget.to_site_bps, budget.from_site_bps
                    down += to_site if side == "below" else from_site
                    up += from_site if side == "below" else to_site
            assert max(down, up) <= link.capacity_bps, link
            assert self.admission.carried_bps(link.id) == max(down, up)
        for site in PARENTS:
            mine = [budget for ask, budget in self.held.values() if ask.site_id == site]
            assert sum(b.to_site_bps for b in mine) <= SITE_BUDGET
            assert sum(b.from_site_bps for b in mine) <= SITE_BUDGET
        for participant_id, (ask, budget) in self.held.items():
            assert self.admission.held(participant_id) == budget
            assert budget.to_site_bps <= ask.wanted.to_site_bps
            assert budget.from_site_bps <= ask.wanted.from_site_bps


rates = st.integers(64_000, 5 * MBIT)
sites = st.sampled_from([None, *PARENTS])
steps = st.lists(
    st.tuples(
        st.sampled_from([f"p{n}" for n in range(12)]),
        st.one_of(st.none(), st.tuples(sites, st.sampled_from(list(PARENTS)), rates, rates)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(steps)
def test_nothing_is_ever_over_its_capacity(
    order: list[tuple[str, tuple[str | None, str, int, int] | None]],
) -> None:
    book = Book()
    for participant_id, asked in order:
        if asked is None:
            book.release(participant_id)
        else:
            site, host, to_site, from_site = asked
            ask = Ask(participant_id, site, host, Budget(to_site, from_site))
            before = dict(book.held)
            limit = None
            try:
                grant = book.admit(ask)
            except NotAdmitted as refused:
                limit = refused.limit
            if limit is not None:
                assert book.held == before
                assert limit.capacity_bps - limit.carried_bps < max(limit.asked_bps, MINIMUM_BPS)
                assert limit.name in {site, *(link.id for link in LINKS if crosses(ask, link) is not None)}
            else:
                least = min(grant.budget.to_site_bps, grant.budget.from_site_bps)
                assert least >= min(to_site, from_site, MINIMUM_BPS)
                lowered = grant.budget != ask.wanted
                assert lowered == (grant.lowered_by is not None)
        book.check()


def test_asked_again_it_replaces() -> None:
    book = Book()
    for wanted in (3 * MBIT, MBIT, 2 * MBIT):
        assert book.admit(Ask("a", "nn", "nation", Budget(wanted, wanted))).budget == Budget(wanted, wanted)
        assert book.admission.carried_bps("gx-nn") == wanted
    book.release("a")
    book.release("a")
    assert book.admission.carried_bps("gx-nn") == 0


def test_the_two_ways_of_a_link_are_counted_apart_for_hosts_below_it_too() -> None:
    """Who is above the link sends down it, where who is below receives."""
    book = Book()
    book.admit(Ask("below", "nn", "nation", Budget(3 * MBIT, MBIT)))
    grant = book.admit(Ask("above", "nation", "nn", Budget(3 * MBIT, 3 * MBIT)))
    assert grant.budget == Budget(to_site_bps=3 * MBIT, from_site_bps=MBIT)
    book.check()
    assert book.admission.carried_bps("gx-nn") == 4 * MBIT
    with pytest.raises(
        NotAdmitted, match="link gx-nn is full: capacity 4 Mbit/s, carries 4 Mbit/s, asked 2 Mbit/s"
    ):
        book.admit(Ask("more", "gx", "nn", Budget(2 * MBIT, 2 * MBIT)))


def test_a_refusal_names_the_tightest_link_of_the_way() -> None:
    admission = Admission(TREE, LINKS, dict.fromkeys(PARENTS, 10 * MBIT), MBIT)
    admission.admit(Ask("a", "lz", "gx", Budget(1_500_000, 1_500_000)))
    with pytest.raises(NotAdmitted) as refused:
        admission.admit(Ask("b", "lz", "nation", Budget(MBIT, MBIT)))
    limit = refused.value.limit
    assert (limit.kind, limit.name, limit.capacity_bps, limit.carried_bps, limit.asked_bps) == (
        "link",
        "gx-lz",
        1_500_000,
        1_500_000,
        MBIT,
    )


def test_guests_have_a_budget_each_and_cross_no_link() -> None:
    book = Book()
    for number in range(20):
        grant = book.admit(Ask(f"guest-{number}", None, "nation", Budget(3 * MBIT, 3 * MBIT)))
        assert grant.budget == Budget(MBIT, MBIT)
        assert str(grant.lowered_by).startswith("budget of guest is full")
    assert book.admission.carried_bps("nation-gx") == 0


def test_a_site_of_another_tree_uses_its_own_budget_only() -> None:
    book = Book()
    assert book.admit(Ask("a", "other", "nn", Budget(4 * MBIT, MBIT))).budget == Budget(SITE_BUDGET, MBIT)
    assert book.admission.carried_bps("gx-nn") == 0
    assert book.admission.carried_bps("no such link") == 0


def test_what_is_held_stays_held_when_the_tree_is_edited() -> None:
    book = Book()
    book.admit(Ask("a", "nn", "nation", Budget(3 * MBIT, 3 * MBIT)))
    smaller = tuple(Link(x.id, x.upper_site_id, x.lower_site_id, MBIT) for x in LINKS)
    book.admission.replace_tree(TREE, smaller, BUDGETS)
    assert book.admission.held("a") == Budget(3 * MBIT, 3 * MBIT)
    with pytest.raises(NotAdmitted, match="carries 3 Mbit/s"):
        book.admission.admit(Ask("b", "wm", "gx", Budget(MBIT, MBIT)))


def test_a_site_without_a_budget_is_refused() -> None:
    admission = Admission(TREE, LINKS, {}, MBIT)
    with pytest.raises(NotAdmitted, match="budget of site nn is full: capacity 0 Mbit/s"):
        admission.admit(Ask("a", "nn", "nation", Budget(MBIT, MBIT)))
