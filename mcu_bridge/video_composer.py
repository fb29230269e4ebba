"""Many pictures into one.

    composer = VideoComposer(1280, 720, captions=CaptionPainter(font), logo=Logo.load(path))
    composer.arrange(layout, sites, fit=Fit.WHOLE)      one site or None for each cell
    composer.show(site, picture); composer.clear(site)   the newest picture; none: a card with the site's name
    composer.name(site, text); composer.forget(site)
    composer.highlight(site | None)                      a border around who speaks
    composer.set_banner(text)                            over all tiles, running if it is long; "" for none
    composer.compose(time) -> Picture | None             None: every canvas is still in use downstream
    composer.newest() -> float                           when the newest of the pictures it shows came
    composer.counts: composed, unchanged, drawn, starved

Pictures are scaled straight into the planes of the canvas, and only the tiles that changed. Every call but
`compose` may come from any thread at any time; `compose` from one at a time. The composed picture is never
written again while somebody holds it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from mcu_bridge.banner import Banner
from mcu_bridge.captions import CaptionPainter, Overlay
from mcu_bridge.layouts import FULL, Layout, Rect
from mcu_bridge.logo import Logo
from media.picture import BLACK, Colour, Picture, Plane

MOST_CANVASES = 6
"""Canvases a composer makes before it says that its pictures are not let go of."""
NEARLY = 0.02
"""Difference of shape below which a picture is stretched rather than barred."""
LADDER_UNEVENNESS = 0.05
"""The same for the sizes that encoders make, whose sides are multiples of 16."""
CARD: Colour = (40, 134, 124)
BORDER: Colour = (170, 60, 70)


class Fit(Enum):
    WHOLE = "whole"
    """The whole picture, with black bars."""
    FILL = "fill"
    """The whole tile, cutting the picture's edges."""


@dataclass(slots=True)
class ComposerCounts:
    composed: int = 0
    unchanged: int = 0
    drawn: int = 0
    starved: int = 0


@dataclass(frozen=True, slots=True)
class _Scene:
    """What `arrange` said; replaced as a whole, so that `compose` never sees half of it."""

    rects: tuple[Rect, ...]
    sites: tuple[str | None, ...]
    fit: Fit
    overlapping: bool


@dataclass(frozen=True, slots=True)
class _Tile:
    """All that a tile's look depends on. A picture compares by identity."""

    rect: Rect
    site: str | None
    picture: Picture | None
    name: str
    highlighted: bool
    fit: Fit


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self.picture = Picture.blank(width, height)
        self.tiles: tuple[_Tile, ...] = ()
        self.banner: tuple[Banner, int] | None = None
        self.lent: weakref.WeakSet[Picture] = weakref.WeakSet()

    def lend(self, time: int, arrival: float) -> Picture:
        assert self.picture.buffer is not None
        picture = Picture.over(self.picture.buffer, time, arrival=arrival)
        self.lent.add(picture)
        return picture


class VideoComposer:
    def __init__(
        self, width: int, height: int, captions: CaptionPainter | None = None, logo: Logo | None = None
    ) -> None:
        cv2.setNumThreads(1)  # threads are shared out by codec lanes; OpenCV's own would double them
        self.width, self.height = width, height
        self.counts = ComposerCounts()
        self._captions = captions
        self._logo = logo.stamp(width, height) if logo is not None else None
        self._scene = _Scene(FULL.rects(width, height), (None,), Fit.WHOLE, False)
        self._pictures: dict[str, Picture] = {}
        self._names: dict[str, str] = {}
        self._highlighted: str | None = None
        self._banner: Banner | None = None
        self._canvases = [_Canvas(width, height)]
        self._last = self._canvases[0]

    def arrange(self, layout: Layout, sites: Sequence[str | None], fit: Fit = Fit.WHOLE) -> None:
        """Puts sites into the cells of a layout; cells without a site stay black."""
        rects = layout.rects(self.width, self.height)
        if len(sites) > len(rects):
            raise ValueError(f"{len(sites)} sites for the {len(rects)} cells of layout {layout.name}")
        filled = (*sites, *[None] * (len(rects) - len(sites)))
        self._scene = _Scene(rects, filled, fit, layout.overlapping)

    def show(self, site: str, picture: Picture) -> None:
        self._pictures[site] = picture

    def clear(self, site: str) -> None:
        """The site sends no picture (any more)."""
        self._pictures.pop(site, None)

    def forget(self, site: str) -> None:
        self.clear(site)
        self._names.pop(site, None)

    def name(self, site: str, text: str) -> None:
        self._names[site] = text

    def highlight(self, site: str | None) -> None:
        self._highlighted = site

    def set_banner(self, text: str) -> None:
        """A line of text over the whole canvas; without a font there is none."""
        current = "" if self._banner is None else self._banner.text
        if text == current or self._captions is None:
            return
        self._banner = Banner(text, self.width, self.height, self._captions) if text else None

    @property
    def sites(self) -> tuple[str, ...]:
        """Who has a cell."""
        return tuple(site for site in self._scene.sites if site is not None)

    def has_picture(self, site: str) -> bool:
        return site in self._pictures

    def newest(self) -> float:
        """Of whom is highlighted or else of all who have a cell: the latest arrival; 0 without pictures."""
        sites = self.sites
        if self._highlighted in sites:
            sites = (self._highlighted,)
        shown = (self._pictures.get(site) for site in sites)
        return max((picture.arrival for picture in shown if picture is not None), default=0.0)

    def compose(self, time: int, arrival: float = 0.0) -> Picture | None:
        """The canvas as of now; `time` (1/90000 s) is its media time, `arrival` goes with it."""
        scene = self._scene
        tiles = self._tiles(scene)
        banner = None if self._banner is None else (self._banner, self._banner.offset(time))
        self.counts.composed += 1
        if tiles == self._last.tiles and banner == self._last.banner:
            self.counts.unchanged += 1
            return self._last.lend(time, arrival)
        canvas = self._free_canvas()
        if canvas is None:
            self.counts.starved += 1
            return None
        if (canvas.banner is None) is not (banner is None):
            canvas.tiles = ()  # what was or comes under the banner is drawn again
        self._draw(canvas, tiles, scene.overlapping, 0 if banner is None else banner[0].height)
        if banner is not None:
            banner[0].draw(canvas.picture.planes, banner[1])
        canvas.banner = banner
        self._last = canvas
        return canvas.lend(time, arrival)

    def _tiles(self, scene: _Scene) -> tuple[_Tile, ...]:
        return tuple(
            _Tile(
                rect,
                site,
                self._pictures.get(site) if site is not None else None,
                self._names.get(site, "") if site is not None else "",
                site is not None and site == self._highlighted,
                scene.fit,
            )
            for rect, site in zip(scene.rects, scene.sites, strict=True)
        )

    def _free_canvas(self) -> _Canvas | None:
        for canvas in self._canvases:
            if not canvas.lent:
                return canvas
        if len(self._canvases) == MOST_CANVASES:
            return None
        self._canvases.append(_Canvas(self.width, self.height))
        return self._canvases[-1]

    def _draw(self, canvas: _Canvas, tiles: tuple[_Tile, ...], overlapping: bool, below: int) -> None:
        planes = canvas.picture.planes
        before = canvas.tiles
        fresh = [tile.rect for tile in tiles] != [tile.rect for tile in before]
        if fresh:
            _fill(planes, Rect(0, 0, self.width, self.height), BLACK)
        changed = {n for n, tile in enumerate(tiles) if fresh or tile != before[n]}
        if overlapping and changed:
            changed = set(range(min(changed), len(tiles)))  # what lies over a redrawn tile is drawn again
        under = self._under_logo(tiles, below)
        stamp = self._logo is not None and (fresh or bool(changed & under))
        if self._logo is not None and stamp and not fresh:
            changed |= under  # a logo that is drawn twice over the same is no longer translucent
            _fill(planes, self._logo.rect(below), BLACK)
        for n in sorted(changed):
            self._draw_tile(planes, tiles[n])
            self.counts.drawn += 1
        if self._logo is not None and stamp:
            self._logo.draw(planes, below)
        canvas.tiles = tiles

    def _under_logo(self, tiles: tuple[_Tile, ...], below: int) -> set[int]:
        if self._logo is None:
            return set()
        logo = self._logo.rect(below)
        return {n for n, tile in enumerate(tiles) if _touch(tile.rect, logo)}

    def _draw_tile(self, planes: tuple[Plane, Plane, Plane], tile: _Tile) -> None:
        rect = tile.rect
        if tile.site is None:
            _fill(planes, rect, BLACK)
            return
        if tile.picture is None:
            _fill(planes, rect, CARD)
            self._write_card(planes, tile)
        else:
            _place(planes, rect, tile.picture, tile.fit)
            self._write_label(planes, tile)
        if tile.highlighted:
            _outline(planes, rect, max(rect.height // 120, 1) * 2)

    def _write_label(self, planes: tuple[Plane, Plane, Plane], tile: _Tile) -> None:
        if self._captions is None or not tile.name:
            return
        rect = tile.rect
        size, margin = _letter_size(rect), max(rect.height // 72, 1) * 2
        overlay = self._captions.label(tile.name, size, rect.width - 2 * margin)
        _write(planes, rect, overlay, rect.x + margin, rect.y + rect.height - margin - overlay.height)

    def _write_card(self, planes: tuple[Plane, Plane, Plane], tile: _Tile) -> None:
        if self._captions is None or not tile.name:
            return
        rect = tile.rect
        overlay = self._captions.card(tile.name, _letter_size(rect) * 3 // 2, rect.width * 9 // 10)
        x = rect.x + (rect.width - overlay.width) // 4 * 2
        y = rect.y + (rect.height - overlay.height) // 4 * 2
        _write(planes, rect, overlay, x, y)


def _touch(one: Rect, other: Rect) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not (beside or one.y + one.height <= other.y or other.y + other.height <= one.y)


def _letter_size(rect: Rect) -> int:
    return min(max(rect.height // 16, 12), 36)


def _write(planes: tuple[Plane, Plane, Plane], rect: Rect, overlay: Overlay, x: int, y: int) -> None:
    """Draws an overlay where it lies within the tile; a tile too small for letters goes without."""
    if overlay.width <= rect.width and overlay.height <= rect.height and x >= rect.x and y >= rect.y:
        overlay.draw(planes, x, y)


def _fill(planes: tuple[Plane, Plane, Plane], rect: Rect, colour: Colour) -> None:
    if rect.width <= 0 or rect.height <= 0:
        return
    for target, value in zip(_window(planes, rect), colour, strict=True):
        target[...] = value


def _window(planes: tuple[Plane, Plane, Plane], rect: Rect) -> tuple[Plane, Plane, Plane]:
    """The part of each plane under an even rectangle."""
    y, u, v = planes
    rows = slice(rect.y // 2, (rect.y + rect.height) // 2)
    columns = slice(rect.x // 2, (rect.x + rect.width) // 2)
    whole = y[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
    return whole, u[rows, columns], v[rows, columns]


def _outline(planes: tuple[Plane, Plane, Plane], rect: Rect, thick: int) -> None:
    inner = rect.height - 2 * thick
    _fill(planes, Rect(rect.x, rect.y, rect.width, thick), BORDER)
    _fill(planes, Rect(rect.x, rect.y + rect.height - thick, rect.width, thick), BORDER)
    _fill(planes, Rect(rect.x, rect.y + thick, thick, inner), BORDER)
    _fill(planes, Rect(rect.x + rect.width - thick, rect.y + thick, thick, inner), BORDER)


def _place(planes: tuple[Plane, Plane, Plane], rect: Rect, picture: Picture, fit: Fit) -> None:
    """Scales a picture into a rectangle, keeping its shape."""
    wide = picture.aspect / (rect.width / rect.height)
    source = picture.planes
    if abs(wide - 1) > NEARLY:
        if fit is Fit.FILL:
            source = _cut(picture, wide)
        else:
            rect = _bar(planes, rect, wide)
    for from_plane, to_plane in zip(source, _window(planes, rect), strict=True):
        scale(from_plane, to_plane)


def _cut(picture: Picture, wide: float) -> tuple[Plane, Plane, Plane]:
    """The middle of a picture that is `wide` times as wide as its place."""
    width, height = picture.width, picture.height
    if wide > 1:
        width = max(int(width / wide) // 2 * 2, 2)
    else:
        height = max(int(height * wide) // 2 * 2, 2)
    x, y = (picture.width - width) // 4 * 2, (picture.height - height) // 4 * 2
    return _window(picture.planes, Rect(x, y, width, height))


def _bar(planes: tuple[Plane, Plane, Plane], rect: Rect, wide: float) -> Rect:
    """Where a picture that is `wide` times as wide as the rectangle goes; the rest of it is made black."""
    if wide > 1:
        height = max(int(rect.height / wide / 2 + 0.5) * 2, 2)
        above = (rect.height - height) // 4 * 2
        inner = Rect(rect.x, rect.y + above, rect.width, height)
        _fill(planes, Rect(rect.x, rect.y, rect.width, above), BLACK)
        below = rect.height - above - height
        _fill(planes, Rect(rect.x, inner.y + height, rect.width, below), BLACK)
        return inner
    width = max(int(rect.width * wide / 2 + 0.5) * 2, 2)
    left = (rect.width - width) // 4 * 2
    _fill(planes, Rect(rect.x, rect.y, left, rect.height), BLACK)
    right = rect.width - left - width
    _fill(planes, Rect(rect.x + left + width, rect.y, right, rect.height), BLACK)
    return Rect(rect.x + left, rect.y, width, rect.height)


def scaled(picture: Picture, width: int, height: int, sample_aspect: float = 1.0) -> Picture:
    """The picture in another size, in its shape, with black bars where shapes differ by much."""
    buffer = np.empty((height * 3 // 2, width), np.uint8)
    made = Picture.over(buffer, picture.time, sample_aspect, picture.arrival)
    rect = Rect(0, 0, width, height)
    wide = picture.aspect / made.aspect
    if abs(wide - 1) > LADDER_UNEVENNESS:
        rect = _bar(made.planes, rect, wide)
    for source, target in zip(picture.planes, _window(made.planes, rect), strict=True):
        scale(source, target)
    return made


def scale(source: Plane, target: Plane) -> None:
    """Scales one plane into another, in place: bilinear, after halving by areas beyond 2:1 (the cheapest that
    does not shimmer)."""
    height, width = target.shape
    while source.shape[0] >= 2 * height and source.shape[1] >= 2 * width:
        rows, columns = source.shape[0] // 2, source.shape[1] // 2
        even = source[: rows * 2, : columns * 2]
        if (rows, columns) == (height, width):
            cv2.resize(even, (columns, rows), dst=target, interpolation=cv2.INTER_AREA)
            return
        source = np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    if source.shape == target.shape:
        np.copyto(target, source)
    else:
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
