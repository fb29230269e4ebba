"""125 sites flat behind one link: what fits is let in, the next is told which link is full."""

from __future__ import annotations

import pytest

from foundation.desks import Budget
from foundation.repositories.sites import Link
from foundation.site_tree import SiteTree
from signaling.admission import MINIMUM_BPS, Admission, Ask, NotAdmitted

SITES = [f"site-{number}" for number in range(125)]
MBIT = 1_000_000
EACH = Budget(3 * MBIT, 3 * MBIT)
CAPACITY = 200 * MBIT


def flat_session() -> Admission:
    """All 125 belong to one province, whose link to the nation carries 200 Mbit/s."""
    tree = SiteTree({"nation": None, "province": "nation", **dict.fromkeys(SITES, "province")})
    link = Link("nation-province", "nation", "province", CAPACITY)
    budgets = dict.fromkeys(("nation", "province", *SITES), 3 * MBIT)
    return Admission(tree, (link,), budgets, guest_budget_bps=MBIT)


def test_the_link_is_named_when_125_sites_of_3_megabits_do_not_fit_in_200() -> None:
    admission = flat_session()
    granted: dict[str, Budget] = {}
    refused: dict[str, NotAdmitted] = {}
    for site in SITES:
        try:
            granted[site] = admission.admit(Ask(site, site, "nation", EACH)).budget
        except NotAdmitted as error:
            refused[site] = error
    full = CAPACITY // EACH.to_site_bps
    assert list(granted) == SITES[: full + 1]
    assert [granted[site] for site in SITES[:full]] == [EACH] * full
    assert granted[SITES[full]] == Budget(2 * MBIT, 2 * MBIT), "the last that fits is answered lower"
    assert list(refused) == SITES[full + 1 :]
    for refusal in refused.values():
        limit = refusal.limit
        assert (limit.kind, limit.name) == ("link", "nation-province")
        assert (limit.capacity_bps, limit.carried_bps, limit.asked_bps) == (CAPACITY, CAPACITY, 3 * MBIT)
        words = "link nation-province is full: capacity 200 Mbit/s, carries 200 Mbit/s, asked 3 Mbit/s"
        assert words in str(refusal)
    assert admission.carried_bps("nation-province") == CAPACITY


def test_the_same_sites_at_a_lower_rate_fit_all() -> None:
    admission = flat_session()
    lower = Budget(CAPACITY // len(SITES), CAPACITY // len(SITES))
    assert lower.to_site_bps > MINIMUM_BPS
    for site in SITES:
        assert admission.admit(Ask(site, site, "nation", lower)).budget == lower
    with pytest.raises(NotAdmitted, match="link nation-province is full"):
        admission.admit(Ask("one-more", "province", "nation", EACH))
