"""Site names and other text as YUV overlays.

    painter = CaptionPainter(font_path)                       raises UnusableFont, naming the file
    painter.label(text, size, most_width) -> Overlay          a name on a dark translucent plate
    painter.card(text, size, most_width) -> Overlay           bare text, for a tile without a picture
    overlay.draw(planes, x, y)                                blends at even x, y; all of it must lie within

Overlays are cached by text and size; drawing one costs two passes over its own few pixels. Any thread.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from media.picture import Plane

CACHED = 512
TEXT_LUMA = 235
PLATE_LUMA = 16
PLATE_ALPHA = 150
"""How much of the picture the plate hides, of 255."""
LONGEST = 120
"""Characters of a text that are looked at; no tile shows more."""
MOST_LINES = 4
SMALLEST = 10
"""Pixels of letters that many lines may be made so small to."""


class UnusableFont(Exception):
    """A font file that is missing or that Pillow cannot read."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Grey text or plate with transparency: picture * keep / 255 + add; chroma at half size."""

    keep: Plane
    add: Plane
    keep_chroma: Plane
    add_chroma: Plane

    @property
    def width(self) -> int:
        return int(self.keep.shape[1])

    @property
    def height(self) -> int:
        return int(self.keep.shape[0])

    def draw(self, planes: tuple[Plane, Plane, Plane], x: int, y: int) -> None:
        y_plane, u_plane, v_plane = planes
        _blend(y_plane[y : y + self.height, x : x + self.width], self.keep, self.add)
        rows = slice(y // 2, (y + self.height) // 2)
        columns = slice(x // 2, (x + self.width) // 2)
        for chroma in (u_plane, v_plane):
            _blend(chroma[rows, columns], self.keep_chroma, self.add_chroma)


def _blend(target: Plane, keep: Plane, add: Plane) -> None:
    cv2.multiply(target, keep, dst=target, scale=1 / 255)
    cv2.add(target, add, dst=target)


class CaptionPainter:
    def __init__(self, font: Path) -> None:
        self._path = font
        self._face = _simplified_chinese_face(font)
        self._fonts: dict[int, ImageFont.FreeTypeFont] = {}
        self._cache: OrderedDict[tuple[str, int, int, bool], Overlay] = OrderedDict()
        self._lock = threading.Lock()

    def label(self, text: str, size: int, most_width: int) -> Overlay:
        """`text` in letters of `size` pixels on a plate, cut with an ellipsis to `most_width`."""
        return self._cached(text, size, most_width, plate=True)

    def card(self, text: str, size: int, most_width: int) -> Overlay:
        """The same without a plate. Of several lines each is centred; they get smaller rather than be cut."""
        return self._cached(text, size, most_width, plate=False)

    def line(self, text: str, size: int) -> Plane:
        """Letters of `size` pixels in one line of any length, as their coverage: 0 to 255, even sizes."""
        shown = "".join(sign for sign in text if sign.isprintable())
        with self._lock:
            font = self._font(size)
        ascent, descent = font.getmetrics()
        mask = Image.new("L", (max(_even(math.ceil(font.getlength(shown))), 2), _even(ascent + descent)), 0)
        ImageDraw.Draw(mask).text((0, 0), shown, font=font, fill=255)
        return np.asarray(mask, np.uint8)

    def _cached(self, text: str, size: int, most_width: int, *, plate: bool) -> Overlay:
        key = (text, size, most_width, plate)
        with self._lock:
            overlay = self._cache.get(key)
            if overlay is None:
                overlay = self._paint(text, size, most_width, plate=plate)
                self._cache[key] = overlay
                if len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(key)
            return overlay

    def _paint(self, text: str, size: int, most_width: int, *, plate: bool) -> Overlay:
        lines = [text] if plate else text.split("\n")[:MOST_LINES]
        if len(lines) > 1:
            size = self._smaller(lines, size, most_width)
        font = self._font(size)
        margin = max(size // 3, 2)
        shown = [_fitting(line, font, most_width - 2 * margin) for line in lines]
        ascent, descent = font.getmetrics()
        widest = max(int(font.getlength(line)) for line in shown)
        width = max(min(_even(widest + 2 * margin), most_width // 2 * 2), 2)
        step = ascent + descent + margin // 2
        mask = Image.new("L", (width, _even(step * len(shown))), 0)
        for number, line in enumerate(shown):
            left = (width - int(font.getlength(line))) // 2 if len(shown) > 1 else margin
            ImageDraw.Draw(mask).text((left, margin // 4 + number * step), line, font=font, fill=255)
        letters = np.asarray(mask, np.float32) / 255
        behind = np.full_like(letters, PLATE_ALPHA / 255 if plate else 0.0)
        return _overlay(letters, behind)

    def _smaller(self, lines: list[str], size: int, most_width: int) -> int:
        """The size at which the longest line fits, but not below half of it."""
        room = most_width - 2 * max(size // 3, 2)
        widest = max(self._font(size).getlength(line) for line in lines)
        return size if widest <= room else max(int(size * room / widest), size // 2, SMALLEST)

    def _font(self, size: int) -> ImageFont.FreeTypeFont:
        if size not in self._fonts:
            self._fonts[size] = ImageFont.truetype(
                str(self._path), size, index=self._face, layout_engine=ImageFont.Layout.BASIC
            )
        return self._fonts[size]


def _overlay(letters: np.ndarray, plate: np.ndarray) -> Overlay:
    """Letters over a plate over the picture, as one factor and one summand."""
    keep = (1 - letters) * (1 - plate)
    add = letters * TEXT_LUMA + (1 - letters) * plate * PLATE_LUMA
    hidden = (1 - keep).reshape(keep.shape[0] // 2, 2, keep.shape[1] // 2, 2).mean(axis=(1, 3))
    return Overlay(
        np.rint(keep * 255).astype(np.uint8),
        np.rint(add).astype(np.uint8),
        np.rint((1 - hidden) * 255).astype(np.uint8),
        np.rint(hidden * 128).astype(np.uint8),
    )


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text on one line, without control characters, cut where it would be wider than `width`."""
    line = "".join(sign for sign in text[:LONGEST] if sign.isprintable())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…" if line else ""


def _even(value: int) -> int:
    return (value + 1) // 2 * 2


def _simplified_chinese_face(path: Path) -> int:
    """The face of a font collection whose name says SC, else the first."""
    for face in range(16):
        try:
            family, _ = ImageFont.truetype(str(path), 16, index=face).getname()
        except OSError as error:
            if face == 0:
                raise UnusableFont(f"the caption font {path} cannot be used: {error}") from error
            return 0
        if family and family.endswith(" SC"):
            return face
    return 0
