"""One question: may this actor do this to that?

    authorisation = Authorisation(tree, home="guangxi")
    decision = authorisation.allowed(actor, Action.OPERATE_CONFERENCE, Resource("conference", id, site_id))
    if not decision: 403 with decision.reason
    authorisation.sites(actor, Action.VIEW_CAMERA) -> frozenset of sites, to filter a list in SQL

A `Resource` lies at a site; one without a site (the settings, the audit, the users) lies at `home`, the site
this node belongs to. An actor acts in the subtree of the jurisdiction, and in the subtrees granted beside it.

The three administrators cannot do one another's work, and an administrator holds that one role only:
the system administrator configures but neither grants roles nor reads the audit, the security administrator
manages users and roles, the auditor reads the audit. Operator, monitor and viewer may be held together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from foundation.site_tree import SiteTree

__all__ = [
    "ADMINISTRATORS",
    "PERMISSIONS",
    "Action",
    "Actor",
    "Authorisation",
    "Decision",
    "Resource",
    "Role",
    "RolesConflict",
    "SiteTree",
    "check_roles",
]


class Role(StrEnum):
    SYSTEM_ADMIN = "system-admin"
    SECURITY_ADMIN = "security-admin"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    MONITOR = "monitor"
    VIEWER = "viewer"


ADMINISTRATORS = frozenset({Role.SYSTEM_ADMIN, Role.SECURITY_ADMIN, Role.AUDITOR})


class Action(StrEnum):
    """Everything a route may ask leave for."""

    CONFIGURE_SYSTEM = "configure-system"
    VIEW_SYSTEM = "view-system"
    MANAGE_SITES = "manage-sites"
    MANAGE_LINKS = "manage-links"
    MANAGE_DEVICES = "manage-devices"
    RUN_BACKUP = "run-backup"

    VIEW_USERS = "view-users"
    MANAGE_USERS = "manage-users"
    GRANT_ROLES = "grant-roles"
    END_SESSIONS = "end-sessions"

    READ_AUDIT = "read-audit"
    VERIFY_AUDIT = "verify-audit"

    VIEW_SITES = "view-sites"
    VIEW_CONFERENCES = "view-conferences"
    JOIN_CONFERENCE = "join-conference"
    CREATE_CONFERENCE = "create-conference"
    OPERATE_CONFERENCE = "operate-conference"
    MANAGE_BROADCASTS = "manage-broadcasts"
    LIST_CAMERAS = "list-cameras"
    """To know of cameras and how they do; VIEW_CAMERA is to see what they show."""
    VIEW_CAMERA = "view-camera"
    CONTROL_CAMERA = "control-camera"
    VIEW_VIOLATIONS = "view-violations"
    REVIEW_VIOLATION = "review-violation"
    PLAY_RECORDING = "play-recording"
    EXPORT_RECORDING = "export-recording"

    CHANGE_OWN_PASSWORD = "change-own-password"


_WATCHING = frozenset(
    {Action.VIEW_SITES, Action.VIEW_CONFERENCES, Action.JOIN_CONFERENCE, Action.PLAY_RECORDING}
)

PERMISSIONS: Mapping[Role, frozenset[Action]] = {
    Role.SYSTEM_ADMIN: frozenset(
        {
            Action.CONFIGURE_SYSTEM,
            Action.VIEW_SYSTEM,
            Action.MANAGE_SITES,
            Action.MANAGE_LINKS,
            Action.MANAGE_DEVICES,
            Action.LIST_CAMERAS,
            Action.RUN_BACKUP,
            Action.VIEW_SITES,
        }
    ),
    Role.SECURITY_ADMIN: frozenset(
        {
            Action.VIEW_USERS,
            Action.MANAGE_USERS,
            Action.GRANT_ROLES,
            Action.END_SESSIONS,
            Action.VIEW_SITES,
        }
    ),
    Role.AUDITOR: frozenset({Action.READ_AUDIT, Action.VERIFY_AUDIT}),
    Role.OPERATOR: _WATCHING
    | {
        Action.CREATE_CONFERENCE,
        Action.OPERATE_CONFERENCE,
        Action.MANAGE_BROADCASTS,
        Action.LIST_CAMERAS,
        Action.VIEW_CAMERA,
        Action.VIEW_SYSTEM,
    },
    Role.MONITOR: _WATCHING
    | {
        Action.LIST_CAMERAS,
        Action.VIEW_CAMERA,
        Action.CONTROL_CAMERA,
        Action.VIEW_VIOLATIONS,
        Action.REVIEW_VIOLATION,
        Action.EXPORT_RECORDING,
    },
    Role.VIEWER: _WATCHING,
}
"""What each role may ever do; the jurisdiction narrows it further."""

_NOT_TO_ONESELF = frozenset({Action.GRANT_ROLES})
_ONLY_TO_ONESELF = frozenset({Action.CHANGE_OWN_PASSWORD})


class RolesConflict(ValueError):
    """These roles cannot be held by one person."""


def check_roles(roles: Iterable[Role]) -> frozenset[Role]:
    """The roles as a set. Raises RolesConflict when none is given or an administrator holds another."""
    held = frozenset(roles)
    if not held:
        raise RolesConflict("a user needs at least one role")
    administrators = held & ADMINISTRATORS
    if administrators and len(held) > 1:
        raise RolesConflict(f"{min(administrators)} cannot be held together with another role")
    return held


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: resolved once at the edge from a session, then passed inward as a value."""

    user_id: str
    name: str
    roles: frozenset[Role]
    site_id: str
    """The jurisdiction: the root of the subtree the actor acts in."""
    display_name: str = ""
    grants: frozenset[str] = frozenset()
    """Roots of further subtrees."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked about: a kind of thing ("conference", "user" ...), which one, and where it lies."""

    kind: str
    id: str | None = None
    site_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, true or false, and why, in words for the person who asked."""

    allowed: bool
    reason: str

    def __bool__(self) -> bool:
        return self.allowed


class Authorisation:
    """Answers from the role table and the site tree; `replace_tree` when sites have changed."""

    def __init__(self, tree: SiteTree, home: str) -> None:
        self.tree = tree
        self.home = home

    def replace_tree(self, tree: SiteTree) -> None:
        self.tree = tree

    def allowed(self, actor: Actor, action: Action, resource: Resource) -> Decision:
        """Whether `actor` may do `action` to `resource`. Never raises."""
        refused = self._by_role(actor, action)
        if refused is not None:
            return refused
        own = resource.kind == "user" and resource.id == actor.user_id
        if action in _ONLY_TO_ONESELF:
            return Decision(
                own, "it is the actor's own" if own else f"{action} is for one's own account only"
            )
        if own and action in _NOT_TO_ONESELF:
            return Decision(False, f"nobody may {action} to their own account")
        site = resource.site_id if resource.site_id is not None else self.home
        for root in (actor.site_id, *sorted(actor.grants)):
            if self._covers(root, site):
                return Decision(True, f"{action} is allowed in the subtree of {root}")
        return Decision(False, f"site {site} is outside the jurisdiction of {actor.name}")

    def has_right(self, actor: Actor, action: Action) -> Decision:
        """Whether the roles allow `action` anywhere at all. Never raises."""
        refused = self._by_role(actor, action)
        return Decision(True, f"{action} is among the actor's rights") if refused is None else refused

    def sites(self, actor: Actor, action: Action) -> frozenset[str]:
        """Every site of the tree where `actor` may do `action`; empty when the roles do not allow it."""
        if action in _ONLY_TO_ONESELF or self._by_role(actor, action) is not None:
            return frozenset()
        roots = (root for root in (actor.site_id, *actor.grants) if root in self.tree)
        return frozenset().union(*(self.tree.subtree(root) for root in roots))

    def _by_role(self, actor: Actor, action: Action) -> Decision | None:
        """A refusal that no place can change, or None."""
        try:
            check_roles(actor.roles)
        except RolesConflict as conflict:
            return Decision(False, str(conflict))
        if action in _ONLY_TO_ONESELF:
            return None
        if not any(action in PERMISSIONS[role] for role in actor.roles):
            held = ", ".join(sorted(actor.roles))
            return Decision(False, f"{action} is not among the rights of {held}")
        return None

    def _covers(self, root: str, site: str) -> bool:
        # A node whose site tree is still empty must let its first administrators in.
        return self.tree.covers(root, site) or (root == site == self.home)
