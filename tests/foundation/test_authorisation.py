"""The permission question: what roles may do, where, and what nobody may do."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.authorisation import (
    ADMINISTRATORS,
    PERMISSIONS,
    Action,
    Actor,
    Authorisation,
    Resource,
    Role,
    RolesConflict,
    check_roles,
)
from foundation.site_tree import NoPath, SiteTree, SiteTreeError, UnknownSite

TREE = SiteTree(
    {
        "nation": None,
        "guangxi": "nation",
        "nanning": "guangxi",
        "wuming": "nanning",
        "baise": "guangxi",
        "bureau": None,
        "station": "bureau",
    }
)
HOME = Authorisation(TREE, home="guangxi")


def actor(*roles: Role, site: str = "nanning", grants: frozenset[str] = frozenset()) -> Actor:
    return Actor("u1", "liu", frozenset(roles), site, grants=grants)


def conference(site: str) -> Resource:
    return Resource("conference", "c1", site)


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        ("nanning", True),
        ("wuming", True),
        ("guangxi", False),
        ("baise", False),
        ("station", False),
        ("x", False),
    ],
)
def test_operator_acts_in_the_subtree_only(site: str, expected: bool) -> None:
    decision = HOME.allowed(actor(Role.OPERATOR), Action.OPERATE_CONFERENCE, conference(site))
    assert bool(decision) is expected
    outside = f"site {site} is outside the jurisdiction of liu"
    words = "allowed in the subtree of nanning" if expected else outside
    assert words in decision.reason


def test_a_grant_may_cross_trees() -> None:
    monitor = actor(Role.MONITOR, grants=frozenset({"bureau"}))
    assert HOME.allowed(monitor, Action.VIEW_CAMERA, Resource("camera", "1", "station"))
    assert HOME.sites(monitor, Action.VIEW_CAMERA) == {"nanning", "wuming", "bureau", "station"}


def test_system_wide_things_lie_at_the_nodes_own_site() -> None:
    own = actor(Role.SYSTEM_ADMIN, site="guangxi")
    lower = actor(Role.SYSTEM_ADMIN, site="nanning")
    assert HOME.allowed(own, Action.CONFIGURE_SYSTEM, Resource("settings"))
    assert not HOME.allowed(lower, Action.CONFIGURE_SYSTEM, Resource("settings"))


def test_first_administrator_of_an_empty_node_is_let_in() -> None:
    empty = Authorisation(SiteTree({}), home="guangxi")
    assert empty.allowed(actor(Role.SYSTEM_ADMIN, site="guangxi"), Action.MANAGE_SITES, Resource("sites"))
    assert not empty.allowed(actor(Role.SYSTEM_ADMIN, site="baise"), Action.MANAGE_SITES, Resource("sites"))


def test_nobody_grants_roles_to_themselves() -> None:
    security = actor(Role.SECURITY_ADMIN, site="guangxi")
    own = HOME.allowed(security, Action.GRANT_ROLES, Resource("user", "u1", "guangxi"))
    assert not own
    assert own.reason == "nobody may grant-roles to their own account"
    assert HOME.allowed(security, Action.GRANT_ROLES, Resource("user", "u2", "guangxi"))


@pytest.mark.parametrize("role", list(Role))
def test_everybody_changes_their_own_password_and_no_other(role: Role) -> None:
    someone = actor(role, site="guangxi")
    assert HOME.allowed(someone, Action.CHANGE_OWN_PASSWORD, Resource("user", "u1", "baise"))
    assert not HOME.allowed(someone, Action.CHANGE_OWN_PASSWORD, Resource("user", "u2", "guangxi"))


def test_the_three_administrators_share_no_power() -> None:
    powers = {role: PERMISSIONS[role] - {Action.VIEW_SITES} for role in ADMINISTRATORS}
    for role, mine in powers.items():
        for other, theirs in powers.items():
            assert role is other or not mine & theirs
    assert not any(
        PERMISSIONS[Role.SYSTEM_ADMIN] & {Action.GRANT_ROLES, Action.MANAGE_USERS, Action.READ_AUDIT}
    )
    assert PERMISSIONS[Role.AUDITOR] == {Action.READ_AUDIT, Action.VERIFY_AUDIT}


def test_every_action_but_ones_own_belongs_to_a_role() -> None:
    assert frozenset().union(*PERMISSIONS.values()) == frozenset(Action) - {Action.CHANGE_OWN_PASSWORD}


@pytest.mark.parametrize(
    "roles",
    [
        [],
        [Role.SYSTEM_ADMIN, Role.AUDITOR],
        [Role.SECURITY_ADMIN, Role.OPERATOR],
        [Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.AUDITOR],
    ],
)
def test_conflicting_roles_are_refused(roles: list[Role]) -> None:
    with pytest.raises(RolesConflict):
        check_roles(roles)


@given(
    roles=st.sets(st.sampled_from(Role), min_size=2),
    site=st.sampled_from([*TREE]),
    action=st.sampled_from([action for action in Action if action is not Action.CHANGE_OWN_PASSWORD]),
)
def test_whoever_holds_an_administrators_role_and_another_may_do_nothing(
    roles: set[Role], site: str, action: Action
) -> None:
    decision = HOME.allowed(actor(*roles, site="nation"), action, conference(site))
    if roles & ADMINISTRATORS:
        assert not decision
    else:
        expected = any(action in PERMISSIONS[role] for role in roles) and TREE.covers("nation", site)
        assert bool(decision) is expected


@given(
    role=st.sampled_from(Role),
    action=st.sampled_from(Action),
    jurisdiction=st.sampled_from([*TREE, "atlantis"]),
    grants=st.frozensets(st.sampled_from([*TREE, "atlantis"]), max_size=2),
    site=st.sampled_from([*TREE, "atlantis"]),
)
def test_the_list_filter_and_the_question_agree(
    role: Role, action: Action, jurisdiction: str, grants: frozenset[str], site: str
) -> None:
    someone = actor(role, site=jurisdiction, grants=grants)
    assert bool(HOME.allowed(someone, action, conference(site))) is (site in HOME.sites(someone, action))


@st.composite
def forests(draw: st.DrawFn) -> Mapping[str, str | None]:
    """Any forest: each site lies below an earlier one, or is a root; then the order is mixed."""
    size = draw(st.integers(1, 30))
    above = [draw(st.none() | st.integers(0, number - 1)) if number else None for number in range(size)]
    order = draw(st.permutations(range(size)))
    return {f"s{number}": None if (up := above[number]) is None else f"s{up}" for number in order}


@given(forests(), st.data())
def test_ancestors_subtrees_and_covers_tell_the_same(
    parents: Mapping[str, str | None], data: st.DataObject
) -> None:
    tree = SiteTree(parents)
    upper, lower = data.draw(st.sampled_from([*parents])), data.draw(st.sampled_from([*parents]))
    below = lower in tree.subtree(upper)
    assert below is (upper == lower or upper in tree.ancestors(lower))
    assert below is tree.covers(upper, lower)
    assert sum(len(tree.subtree(root)) for root in tree.roots) == len(tree) == len(parents)


@given(forests(), st.data())
def test_a_path_steps_along_links_and_never_twice_through_a_site(
    parents: Mapping[str, str | None], data: st.DataObject
) -> None:
    tree = SiteTree(parents)
    start, end = data.draw(st.sampled_from([*parents])), data.draw(st.sampled_from([*parents]))
    connected = any({start, end} <= tree.subtree(root) for root in tree.roots)
    if not connected:
        with pytest.raises(NoPath):
            tree.path(start, end)
        return
    path = tree.path(start, end)
    assert (path[0], path[-1]) == (start, end)
    assert len(set(path)) == len(path)
    for here, there in pairwise(path):
        assert here == parents[there] or there == parents[here]
    assert tree.path(end, start) == path[::-1]


@pytest.mark.parametrize(
    ("parents", "words"),
    [
        ({"a": "b"}, "site 'a' lies below 'b', which is no site"),
        ({"a": "a"}, "site 'a' lies in a circle"),
        ({"r": None, "a": "b", "b": "c", "c": "a"}, "site 'a' lies in a circle"),
    ],
)
def test_what_is_no_tree_is_refused(parents: dict[str, str | None], words: str) -> None:
    with pytest.raises(SiteTreeError, match=words):
        SiteTree(parents)


def test_unknown_site_is_named() -> None:
    for ask in (TREE.parent, TREE.children, TREE.ancestors, TREE.subtree):
        with pytest.raises(UnknownSite, match="no site is called 'atlantis'"):
            ask("atlantis")
    assert TREE.path("wuming", "baise") == ("wuming", "nanning", "guangxi", "baise")
    assert TREE.children("guangxi") == ("nanning", "baise")
