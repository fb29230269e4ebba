"""What a test terminal shows, and how another one recognises it: a colour, a moving mark, a number in blocks.

Colours are 8-bit RGB; on the way they are limited-range YUV by ITU-R BT.601, as terminals without a word
about it take them. Regions are fractions of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from media.picture import Colour, Picture

Rgb = tuple[int, int, int]

COLOURS: Mapping[str, Rgb] = MappingProxyType(
    {
        "red": (200, 40, 40),
        "green": (40, 170, 60),
        "blue": (40, 60, 200),
        "yellow": (210, 200, 40),
        "magenta": (190, 50, 180),
        "cyan": (40, 190, 200),
    }
)
"""Well apart after coding, and away from the black and greys of backgrounds."""

TOLERANCE = 30
"""How far (in each of R, G, B) a mean may lie from what was meant, after one or two codings."""

BAR = 0.92
"""The moving mark lies below this part of the height."""

_NUMBER_TOP, _NUMBER_BOTTOM = 0.02, 0.1
_NUMBER_LEFT, _NUMBER_RIGHT = 0.04, 0.96
_BITS = 16
_CELLS = 2 + _BITS + 4 + 2
_CONTRAST = 80
NUMBERS = 1 << _BITS
"""Frame numbers are counted modulo this."""


class Region(NamedTuple):
    """A part of a picture: its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float

    def tile(self, column: int, row: int, columns: int, rows: int) -> Region:
        """One tile of a mosaic that fills this region, less a margin for borders and names."""
        width, height = self.width / columns, self.height / rows
        left, top = self.x + column * width, self.y + row * height
        return Region(left + 0.15 * width, top + 0.15 * height, 0.7 * width, 0.55 * height)


WHOLE = Region(0, 0, 1, 1)
CENTRE = Region(0.2, 0.2, 0.6, 0.5)


@dataclass(frozen=True, slots=True)
class Footage:
    """A picture of one colour with a bar that travels along its lower edge: no two neighbours are equal.

    `detail` (0 to 100) adds noise of that amplitude to the brightness, so that the picture costs bits.
    `numbered` burns the frame's number in along the upper edge.
    """

    colour: Rgb
    width: int
    height: int
    detail: int = 0
    numbered: bool = False

    def picture(self, number: int, time: int = 0) -> Picture:
        """Frame `number` at media time `time` (1/90000 s)."""
        picture = Picture.blank(self.width, self.height, to_yuv(self.colour), time)
        y = picture.y
        if self.detail:
            noise = np.random.default_rng(number).integers(-self.detail, self.detail + 1, y.shape)
            np.copyto(y, np.clip(y.astype(np.int16) + noise, 16, 235).astype(np.uint8))
        length = max(2, self.width // 16)
        start = number * max(2, self.width // 100) % (self.width - length)
        y[int(self.height * BAR) :, start : start + length] = 220
        if self.numbered:
            _burn_in(picture, number % NUMBERS)
        return picture


def to_yuv(rgb: Rgb) -> Colour:
    """ITU-R BT.601, limited range."""
    red, green, blue = (value / 255 for value in rgb)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        round(16 + 219 * luma),
        round(128 + 224 * (blue - luma) / 1.772),
        round(128 + 224 * (red - luma) / 1.402),
    )


def to_rgb(y: float, u: float, v: float) -> Rgb:
    luma, blue, red = (y - 16) / 219, 1.772 * (u - 128) / 224, 1.402 * (v - 128) / 224
    mixed = (luma + red, luma - (0.299 * red + 0.114 * blue) / 0.587, luma + blue)
    clipped = [round(255 * min(max(value, 0.0), 1.0)) for value in mixed]
    return clipped[0], clipped[1], clipped[2]


def mean_colour(picture: Picture, region: Region = CENTRE) -> Rgb:
    """The mean colour of a region, of at least one sample."""
    means = []
    for plane in picture.planes:
        height, width = plane.shape
        top, left = int(region.y * height), int(region.x * width)
        bottom = max(top + 1, int((region.y + region.height) * height))
        right = max(left + 1, int((region.x + region.width) * width))
        means.append(float(plane[top:bottom, left:right].mean()))
    return to_rgb(*means)


def is_near(seen: Rgb, meant: Rgb, tolerance: int = TOLERANCE) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(seen, meant, strict=True))


def shows(picture: Picture, meant: Rgb, region: Region = CENTRE, tolerance: int = TOLERANCE) -> bool:
    """Whether a region and each quarter of it has the colour (two colours may average to a third)."""
    half_width, half_height = region.width / 2, region.height / 2
    quarters = [
        Region(region.x + x * half_width, region.y + y * half_height, half_width, half_height)
        for x in (0, 1)
        for y in (0, 1)
    ]
    return all(is_near(mean_colour(picture, part), meant, tolerance) for part in (region, *quarters))


def read_number(picture: Picture, region: Region = WHOLE) -> int | None:
    """The number burnt into the footage that fills `region`; None when none can be read with certainty."""
    levels = [float(cell.mean()) for cell in _cells(picture, region, inset=0.25)]
    light, dark = min(levels[0], levels[-1]), max(levels[1], levels[-2])
    if light - dark < _CONTRAST:
        return None
    middle = (light + dark) / 2
    value = 0
    for level in levels[2:-2]:
        value = value << 1 | (level > middle)
    number, check = value >> 4, value & 0xF
    return number if check == _check(number) else None


def _burn_in(picture: Picture, number: int) -> None:
    """White, black, 16 bits with 4 of check, black, white."""
    value = number << 4 | _check(number)
    bits = [value >> shift & 1 for shift in range(_BITS + 3, -1, -1)]
    for cell, bit in zip(_cells(picture, WHOLE), (1, 0, *bits, 0, 1), strict=True):
        cell.fill(235 if bit else 16)


def _check(number: int) -> int:
    return (number >> 12 ^ number >> 8 ^ number >> 4 ^ number ^ 0b1010) & 0xF


def _cells(
    picture: Picture, region: Region, inset: float = 0.0
) -> list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
    """Views of the luma of each cell, less `inset` of its size on every side."""
    height, width = picture.y.shape
    left, right = (region.x + part * region.width for part in (_NUMBER_LEFT, _NUMBER_RIGHT))
    top, bottom = (region.y + part * region.height for part in (_NUMBER_TOP, _NUMBER_BOTTOM))
    step, margin = (right - left) / _CELLS, (bottom - top) * inset
    first, last = int((top + margin) * height), int((bottom - margin) * height)
    cells = []
    for index in range(_CELLS):
        begin = int((left + (index + inset) * step) * width)
        end = int((left + (index + 1 - inset) * step) * width)
        cells.append(picture.y[first : max(last, first + 1), begin : max(end, begin + 1)])
    return cells
