"""Layouts of a picture and who sits where. Pure.

FULL, SIDE_BY_SIDE, GRID_2X2, ONE_PLUS_5, ONE_PLUS_7, GRID_3X3, GRID_4X4, PIP, SPEAKER_STRIP,
SLIDES_SPEAKER: Layout
layout_named(name); layout_for(count, speaker=False)
layout.rects(width, height) -> tuple[Rect, ...]      pixels, even, adjacent cells meet without a gap
TileOrder(layout).assign(sites, speakers, now, fixed={}) -> tuple[site | None, ...]
pages(sites, size) -> tuple[tuple[str, ...], ...]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rect:
    """Pixels of a canvas; every number is even, so that chroma falls on whole samples."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A place for one site, in parts of the canvas's width and height."""

    x: Fraction
    y: Fraction
    width: Fraction
    height: Fraction


@dataclass(frozen=True, slots=True)
class Layout:
    """Cells in order of rank; a later one lies over an earlier one. `leading`: the first is the speaker's."""

    name: str
    cells: tuple[Cell, ...]
    leading: bool = False

    @property
    def overlapping(self) -> bool:
        """Whether cells lie over one another (picture in picture)."""
        return any(
            one.x < other.x + other.width
            and other.x < one.x + one.width
            and one.y < other.y + other.height
            and other.y < one.y + one.height
            for n, one in enumerate(self.cells)
            for other in self.cells[:n]
        )

    def rects(self, width: int, height: int) -> tuple[Rect, ...]:
        """The cells in pixels of a canvas of even sizes."""
        if width % 2 or height % 2:
            raise ValueError(f"a canvas of {width}x{height} is not even")
        return tuple(_rect(cell, width, height) for cell in self.cells)


def _even(value: Fraction) -> int:
    return round(value / 2) * 2


def _rect(cell: Cell, width: int, height: int) -> Rect:
    left, right = _even(cell.x * width), _even((cell.x + cell.width) * width)
    top, bottom = _even(cell.y * height), _even((cell.y + cell.height) * height)
    return Rect(left, top, right - left, bottom - top)


def _cell(columns: int, rows: int, x: int, y: int, across: int = 1, down: int = 1) -> Cell:
    """The cell at column x and row y of a grid, some columns wide and rows high."""
    return Cell(Fraction(x, columns), Fraction(y, rows), Fraction(across, columns), Fraction(down, rows))


def _grid(name: str, columns: int, rows: int) -> Layout:
    return Layout(name, tuple(_cell(columns, rows, x, y) for y in range(rows) for x in range(columns)))


def _one_plus(name: str, edge: int) -> Layout:
    """A large picture of (edge - 1) squared cells with small ones to its right and below."""
    main = _cell(edge, edge, 0, 0, edge - 1, edge - 1)
    right = tuple(_cell(edge, edge, edge - 1, y) for y in range(edge))
    below = tuple(_cell(edge, edge, x, edge - 1) for x in range(edge - 1))
    return Layout(name, (main, *right, *below), leading=True)


FULL = _grid("full", 1, 1)
SIDE_BY_SIDE = Layout("1+1", (_cell(2, 4, 0, 1, 1, 2), _cell(2, 4, 1, 1, 1, 2)))
GRID_2X2 = _grid("2x2", 2, 2)
GRID_3X3 = _grid("3x3", 3, 3)
GRID_4X4 = _grid("4x4", 4, 4)
ONE_PLUS_5 = _one_plus("1+5", 3)
ONE_PLUS_7 = _one_plus("1+7", 4)
PIP = Layout("pip", (_cell(1, 1, 0, 0), _cell(40, 40, 29, 29, 10, 10)), leading=True)
SPEAKER_STRIP = Layout(
    "speaker+strip",
    (_cell(10, 5, 1, 0, 8, 4), *(_cell(5, 5, x, 4) for x in range(5))),
    leading=True,
)
SLIDES_SPEAKER = Layout("slides+speaker", (_cell(5, 10, 0, 1, 4, 8), _cell(5, 10, 4, 4, 1, 2)), leading=True)
"""The slides and, beside them, who speaks; while there are none, the speaker is large."""

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        layout.name: layout
        for layout in (
            FULL,
            SIDE_BY_SIDE,
            GRID_2X2,
            ONE_PLUS_5,
            ONE_PLUS_7,
            GRID_3X3,
            GRID_4X4,
            PIP,
            SPEAKER_STRIP,
            SLIDES_SPEAKER,
        )
    }
)


AUTOMATIC, SPEAKER = "auto", "speaker"
"""Not layouts but ways to choose one by how many there are."""
NAMES = (AUTOMATIC, SPEAKER, *LAYOUTS)


def layout_named(name: str) -> Layout:
    """Raises ValueError that lists the names there are."""
    layout = LAYOUTS.get(name)
    if layout is None:
        raise ValueError(f"no layout is called {name!r}; there are {', '.join(LAYOUTS)}")
    return layout


def layout_for(count: int, *, speaker: bool = False) -> Layout:
    """The smallest layout that shows `count` sites; with `speaker`, the one who speaks is large.

    More than sixteen sites take the largest layout and turn by pages or by voice.
    """
    equal = ((1, FULL), (2, SIDE_BY_SIDE), (4, GRID_2X2), (9, GRID_3X3))
    led = ((1, FULL), (2, PIP), (6, ONE_PLUS_5))
    for most, layout in led if speaker else equal:
        if count <= most:
            return layout
    return ONE_PLUS_7 if speaker else GRID_4X4


def pages(sites: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Sites in groups of one mosaic each, in their order; at least one page, perhaps empty."""
    if size < 1:
        raise ValueError(f"a page must hold at least one site, not {size}")
    return tuple(tuple(sites[n : n + size]) for n in range(0, len(sites), size)) or ((),)


@dataclass(slots=True)
class TileOrder:
    """Who sits in which cell, calm enough to watch.

    A site keeps its cell while it is there. Somebody who speaks unseen takes the cell of whoever was silent
    for longest. In a layout with a leading cell, the first speaker moves there, changing places with the one
    who held it, no sooner than `hold` seconds after the last change.
    """

    layout: Layout
    hold: float = 2.0
    _places: list[str | None] = field(default_factory=list)
    _spoke: dict[str, float] = field(default_factory=dict)
    _led_since: float = float("-inf")

    def use(self, layout: Layout) -> None:
        """Another layout; who was shown stays shown as far as there is room, in the same order."""
        self.layout = layout
        shown = [site for site in self._places if site is not None]
        self._places = list(shown[: len(layout.cells)])

    def assign(
        self,
        sites: Sequence[str],
        speakers: Sequence[str],
        now: float,
        fixed: Mapping[int, str] = MappingProxyType({}),
    ) -> tuple[str | None, ...]:
        """One site or None for each cell.

        `sites` are those present, in order of rank; `speakers` those who spoke, the latest first; `fixed`
        puts sites in cells by number, whatever else happens.
        """
        size = len(self.layout.cells)
        wanted = {cell: site for cell, site in fixed.items() if cell < size and site in sites}
        for rank, site in enumerate(speakers):
            self._spoke[site] = now - rank * 1e-3
        self._spoke = {site: when for site, when in self._spoke.items() if site in sites}
        places = [self._kept(n, sites, wanted) for n in range(size)]
        for cell, site in wanted.items():
            places[cell] = site
        waiting = iter(dict.fromkeys(s for s in (*speakers, *sites) if s in sites and s not in places))
        places = [next(waiting, None) if place is None else place for place in places]
        self._show_speakers(places, [site for site in speakers if site in sites], wanted)
        self._lead(places, speakers, now, wanted)
        self._places = places
        return tuple(places)

    def _kept(self, cell: int, sites: Sequence[str], wanted: Mapping[int, str]) -> str | None:
        site = self._places[cell] if cell < len(self._places) else None
        return site if site in sites and site not in wanted.values() else None

    def _show_speakers(
        self, places: list[str | None], speakers: Sequence[str], wanted: Mapping[int, str]
    ) -> None:
        free = [n for n in range(len(places)) if n not in wanted]
        for site in speakers[: len(free)]:
            if site in places:
                continue
            idle = [n for n in free if places[n] not in speakers]
            if not idle:
                return
            cell = min(reversed(idle), key=lambda n: self._spoke.get(places[n] or "", float("-inf")))
            places[cell] = site

    def _lead(
        self, places: list[str | None], speakers: Sequence[str], now: float, wanted: Mapping[int, str]
    ) -> None:
        if not self.layout.leading or 0 in wanted or not speakers or speakers[0] not in places:
            return
        held_by, speaker = places[0], speakers[0]
        if held_by == speaker or (held_by in self._places and now - self._led_since < self.hold):
            return
        cell = places.index(speaker)
        if cell in wanted:
            return
        places[0], places[cell] = speaker, held_by
        self._led_since = now
