"""The tree of sites as a pure value: who is above whom, and the way between two sites.

    tree = SiteTree({"nation": None, "guangxi": "nation", "nanning": "guangxi"})
    tree.ancestors("nanning") -> ("guangxi", "nation")          nearest first, without the site itself
    tree.subtree("guangxi") -> frozenset({"guangxi", "nanning"})
    tree.path("nanning", "nation") -> ("nanning", "guangxi", "nation")
    tree.covers("guangxi", "nanning") -> True                   is the second in the first one's subtree

There may be several roots (the mine-safety line beside the administration) and any depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["NoPath", "SiteTree", "SiteTreeError", "UnknownSite"]


class SiteTreeError(ValueError):
    """The sites do not make a tree; the message names the site that is wrong."""


class UnknownSite(LookupError):
    """No such site in the tree."""


class NoPath(LookupError):
    """Two sites belong to different trees."""


class SiteTree:
    """Immutable. `parents` maps each site to the one above it, a root to None.

    Raises SiteTreeError for a parent that is no site or a site that is above itself.
    """

    __slots__ = ("_ancestors", "_children", "_parents")

    def __init__(self, parents: Mapping[str, str | None]) -> None:
        self._parents = dict(parents)
        children: dict[str, list[str]] = {site: [] for site in self._parents}
        for site, parent in self._parents.items():
            if parent is not None:
                if parent not in children:
                    raise SiteTreeError(f"site {site!r} lies below {parent!r}, which is no site")
                children[parent].append(site)
        self._children = {site: tuple(below) for site, below in children.items()}
        self._ancestors: dict[str, tuple[str, ...]] = {}
        waiting = [site for site, parent in self._parents.items() if parent is None]
        while waiting:
            site = waiting.pop()
            parent = self._parents[site]
            self._ancestors[site] = () if parent is None else (parent, *self._ancestors[parent])
            waiting.extend(self._children[site])
        if len(self._ancestors) != len(self._parents):
            looped = min(self._parents.keys() - self._ancestors.keys())
            raise SiteTreeError(f"site {looped!r} lies in a circle of sites above one another")

    def __contains__(self, site: object) -> bool:
        return site in self._parents

    def __iter__(self) -> Iterator[str]:
        return iter(self._parents)

    def __len__(self) -> int:
        return len(self._parents)

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(site for site, parent in self._parents.items() if parent is None)

    def parent(self, site: str) -> str | None:
        """The site above, None for a root. Raises UnknownSite."""
        self._known(site)
        return self._parents[site]

    def children(self, site: str) -> tuple[str, ...]:
        """The sites directly below. Raises UnknownSite."""
        self._known(site)
        return self._children[site]

    def ancestors(self, site: str) -> tuple[str, ...]:
        """Every site above, nearest first. Raises UnknownSite."""
        self._known(site)
        return self._ancestors[site]

    def subtree(self, site: str) -> frozenset[str]:
        """The site and all below it. Raises UnknownSite."""
        self._known(site)
        found = [site]
        for each in found:  # grows while it is walked
            found.extend(self._children[each])
        return frozenset(found)

    def covers(self, upper: str, site: str) -> bool:
        """Whether `site` is `upper` or below it; False for sites the tree does not know."""
        return site in self._parents and (site == upper or upper in self._ancestors[site])

    def path(self, start: str, end: str) -> tuple[str, ...]:
        """The sites from `start` to `end`, both included: up to the nearest common one, then down.

        Raises UnknownSite, or NoPath when they have no common ancestor.
        """
        up, down = (start, *self.ancestors(start)), (end, *self.ancestors(end))
        above_end = set(down)
        for climbed, site in enumerate(up):
            if site in above_end:
                return (*up[:climbed], *reversed(down[: down.index(site) + 1]))
        raise NoPath(f"sites {start!r} and {end!r} belong to different trees")

    def _known(self, site: str) -> None:
        if site not in self._parents:
            raise UnknownSite(f"no site is called {site!r}")
