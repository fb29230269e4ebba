"""An operator's logo in a corner of composed pictures: a picture file with transparency, scaled to fit.

    logo = Logo.load(Path("emblem.png"), Corner.TOP_RIGHT)     raises UnusableLogo, naming the file
    stamp = logo.stamp(1280, 720) -> LogoStamp                  for canvases of one size
    stamp.rect(below) -> Rect; stamp.draw(planes, below)        `below` a banner of so many rows

It takes a tenth of the height and a quarter of the width at most, whatever the file's size. Drawing blends,
so that what lies under it has to be drawn anew before it is drawn again. Any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mcu_bridge.layouts import Rect
from media.picture import Plane

MOST_BYTES = 4 * 1024 * 1024
MOST_SIDE = 4096
HEIGHT_SHARE = 10
WIDTH_SHARE = 4
MARGIN_SHARE = 36
"""Parts of the canvas's height (width) that the logo takes at most, and that lie between it and the edge."""


class Corner(Enum):
    TOP_LEFT = "top-left"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_RIGHT = "bottom-right"


class UnusableLogo(Exception):
    """A file that is missing, too large, or no picture."""


@dataclass(frozen=True, slots=True, eq=False)
class LogoStamp:
    """The logo for one size of canvas: picture * keep / 255 + add, the chroma of each plane at half size."""

    canvas: tuple[int, int]
    corner: Corner
    keep: Plane
    add: Plane
    keep_chroma: Plane
    add_chroma: tuple[Plane, Plane]

    def rect(self, below: int = 0) -> Rect:
        """Where it lies; at the top, under a banner of `below` rows."""
        width, height = self.canvas
        rows, columns = self.keep.shape
        margin = max(height // MARGIN_SHARE // 2 * 2, 2)
        left = self.corner in (Corner.TOP_LEFT, Corner.BOTTOM_LEFT)
        top = self.corner in (Corner.TOP_LEFT, Corner.TOP_RIGHT)
        x = margin if left else width - margin - columns
        y = margin + below if top else height - margin - rows
        return Rect(x, y, columns, rows)

    def draw(self, planes: tuple[Plane, Plane, Plane], below: int = 0) -> None:
        """Into the planes of a canvas of its size; not where a banner leaves no room."""
        rect = self.rect(below)
        if rect.y + rect.height > self.canvas[1]:
            return
        rows, columns = slice(rect.y, rect.y + rect.height), slice(rect.x, rect.x + rect.width)
        _blend(planes[0][rows, columns], self.keep, self.add)
        rows = slice(rect.y // 2, (rect.y + rect.height) // 2)
        columns = slice(rect.x // 2, (rect.x + rect.width) // 2)
        for plane, add in zip(planes[1:], self.add_chroma, strict=True):
            _blend(plane[rows, columns], self.keep_chroma, add)


@dataclass(frozen=True, slots=True, eq=False)
class Logo:
    """The file's picture; `stamp` fits it to a canvas."""

    image: Image.Image
    corner: Corner

    @classmethod
    def load(cls, path: Path, corner: Corner = Corner.TOP_RIGHT) -> Logo:
        """A PNG (or another picture that Pillow reads)."""
        try:
            size = path.stat().st_size
            if size > MOST_BYTES:
                raise UnusableLogo(f"the logo {path} has {size} bytes, {MOST_BYTES} at most are taken")
            with Image.open(path) as image:
                if max(image.size) > MOST_SIDE:
                    width, height = image.size
                    raise UnusableLogo(f"the logo {path} is {width}x{height}, {MOST_SIDE} a side at most")
                return cls(image.convert("RGBA"), corner)
        except (OSError, ValueError, SyntaxError) as error:
            raise UnusableLogo(f"the logo {path} cannot be used: {error}") from error

    def stamp(self, width: int, height: int) -> LogoStamp:
        fit = min(width / WIDTH_SHARE / self.image.width, height / HEIGHT_SHARE / self.image.height)
        size = (_even(self.image.width * fit), _even(self.image.height * fit))
        pixels = np.asarray(self.image.resize(size, Image.Resampling.LANCZOS), np.float32)
        alpha = pixels[..., 3] / 255
        y, u, v = _yuv(pixels[..., :3])
        halved = _halved(alpha)
        shown = np.maximum(halved, 1e-6)  # a colour counts by how much of it is seen
        return LogoStamp(
            (width, height),
            self.corner,
            _bytes((1 - alpha) * 255),
            _bytes(alpha * y),
            _bytes((1 - halved) * 255),
            (_bytes(halved * _halved(alpha * u) / shown), _bytes(halved * _halved(alpha * v) / shown)),
        )


def _even(value: float) -> int:
    return max(round(value / 2) * 2, 2)


def _halved(plane: np.ndarray) -> np.ndarray:
    return np.asarray(plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean(axis=(1, 3)))


def _bytes(plane: np.ndarray) -> Plane:
    return np.asarray(np.clip(np.rint(plane), 0, 255), np.uint8)


def _yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.601, limited range, as terminals take a picture without a word about it."""
    red, green, blue = (rgb[..., n] / 255 for n in range(3))
    y = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112 * blue
    v = 128 + 112 * red - 93.786 * green - 18.214 * blue
    return y, u, v


def _blend(target: Plane, keep: Plane, add: Plane) -> None:
    cv2.multiply(target, keep, dst=target, scale=1 / 255)
    cv2.add(target, add, dst=target)
