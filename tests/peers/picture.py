"""Which colour a picture shows, and where: one colour a site tells a test who is seen.

Pictures are numpy arrays of height x width x 3, 8-bit RGB.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

# Well apart after coding, and away from the black and greys of backgrounds.
RED: Colour = (200, 40, 40)
GREEN: Colour = (40, 170, 60)
BLUE: Colour = (40, 60, 200)
YELLOW: Colour = (210, 200, 40)
MAGENTA: Colour = (190, 50, 180)
CYAN: Colour = (40, 190, 200)

# How far (in each of R, G, B) a mean may lie from what was meant.
EXACT = 8  # no coding between
CODED = 30  # coded once or twice, whichever of BT.601 and BT.709 and of full and limited range was believed


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture, in fractions of its width and height from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    def tile(self, column: int, row: int, columns: int, rows: int) -> "Region":
        """One tile of a mosaic that fills this region, less a margin for borders and captions."""
        width, height = (self.right - self.left) / columns, (self.bottom - self.top) / rows
        left, top = self.left + column * width, self.top + row * height
        return Region(left + 0.15 * width, top + 0.15 * height, left + 0.85 * width, top + 0.7 * height)


WHOLE = Region(0, 0, 1, 1)
CENTRE = Region(0.2, 0.2, 0.8, 0.7)


def load(path: Path) -> Picture:
    """A PNG or JPEG file's picture; OSError when it is not one, or not wholly written yet."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def cut(picture: Picture, region: Region) -> Picture:
    """The pixels of a region, at least one."""
    height, width = picture.shape[:2]
    top, left = int(region.top * height), int(region.left * width)
    bottom, right = max(top + 1, int(region.bottom * height)), max(left + 1, int(region.right * width))
    return picture[top:bottom, left:right]


def mean_colour(picture: Picture, region: Region = CENTRE) -> Colour:
    red, green, blue = cut(picture, region).reshape(-1, 3).mean(axis=0)
    return round(red), round(green), round(blue)


def near(seen: Colour, meant: Colour, tolerance: int = CODED) -> bool:
    """Whether two colours differ by at most `tolerance` in each component."""
    return all(abs(one - other) <= tolerance for one, other in zip(seen, meant, strict=True))


def shows(picture: Picture, meant: Colour, region: Region = CENTRE, tolerance: int = CODED) -> bool:
    """Whether a region and each quarter of it has the colour (two colours may average to a third)."""
    middle_x, middle_y = (region.left + region.right) / 2, (region.top + region.bottom) / 2
    quarters = [
        Region(left, top, right, bottom)
        for left, right in ((region.left, middle_x), (middle_x, region.right))
        for top, bottom in ((region.top, middle_y), (middle_y, region.bottom))
    ]
    return all(near(mean_colour(picture, part), meant, tolerance) for part in (region, *quarters))
