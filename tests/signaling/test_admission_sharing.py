"""A site's own budget is shared by those who call from it."""

import pytest

from foundation.desks import Budget
from foundation.repositories.sites import Link
from foundation.site_tree import SiteTree
from signaling.admission import MINIMUM_BPS, Admission, Ask, NotAdmitted

TREE = SiteTree({"nation": None, "gx": "nation", "nn": "gx"})
LINKS = (Link("nation-gx", "nation", "gx", 200_000_000), Link("gx-nn", "gx", "nn", 4_000_000))
BUDGETS = {"nation": 3_000_000, "gx": 3_000_000, "nn": 3_000_000}
FULL = Budget(3_000_000, 3_000_000)


def ledger() -> Admission:
    return Admission(TREE, LINKS, BUDGETS, guest_budget_bps=1_000_000)


def test_a_newcomer_lowers_its_site_mates_to_an_equal_share() -> None:
    admission = ledger()
    assert admission.admit(Ask("room", "gx", "nation", FULL)).budget == FULL
    grant = admission.admit(Ask("desk", "gx", "nation", FULL))
    assert grant.budget == Budget(1_500_000, 1_500_000)
    assert grant.others == {"room": Budget(1_500_000, 1_500_000)}
    assert admission.carried_bps("nation-gx") == 3_000_000


def test_who_asks_little_keeps_it_and_the_rest_is_shared() -> None:
    admission = ledger()
    admission.admit(Ask("phone", "gx", "nation", Budget(200_000, 200_000)))
    admission.admit(Ask("room", "gx", "nation", FULL))
    grant = admission.admit(Ask("desk", "gx", "nation", FULL))
    assert grant.budget == Budget(1_400_000, 1_400_000)
    assert set(grant.others) == {"room"}


def test_no_share_below_the_least_that_is_of_use() -> None:
    admission = ledger()
    mates = BUDGETS["gx"] // MINIMUM_BPS
    for number in range(mates):
        admission.admit(Ask(f"desk-{number}", "gx", "nation", FULL))
    with pytest.raises(NotAdmitted, match="budget of site gx is full") as caught:
        admission.admit(Ask("one too many", "gx", "nation", FULL))
    assert caught.value.limit.capacity_bps == 3_000_000


def test_a_full_link_is_named_with_what_it_carries_and_what_was_asked() -> None:
    admission = ledger()
    admission.admit(Ask("a", "nn", "nation", FULL))
    grant = admission.admit(Ask("other mate", "nn", "nation", FULL))
    assert grant.budget.to_site_bps == 1_000_000  # what the link has left
    small = Admission(TREE, (Link("gx-nn", "gx", "nn", 3_050_000),), {**BUDGETS, "nn": 9_000_000}, 1_000_000)
    small.admit(Ask("a", "nn", "nation", FULL))
    with pytest.raises(NotAdmitted) as caught:
        small.admit(Ask("b", "nn", "nation", FULL))
    assert str(caught.value) == ("link gx-nn is full: capacity 3.05 Mbit/s, carries 3 Mbit/s, asked 3 Mbit/s")
