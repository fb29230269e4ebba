"""A clock in a picture: what a camera burns in and whoever watches reads, through any number of codecs.

    paint(rgb, milliseconds)          into a (height, width, 3) picture
    read(rgb) -> milliseconds | None  from wherever the camera's picture stands in a larger one

The camera's picture is of one colour, `GROUND`, by which it is found; across its middle runs a band of black
and white cells: the time in steps of 40 ms, and a check sum. The time is known up to `WRAP` milliseconds.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rgb8: TypeAlias = NDArray[np.uint8]

GROUND = (190, 50, 180)
STEP = 40
TIME_BITS, CHECK_BITS = 20, 4
WRAP = STEP << TIME_BITS
LEFT, RIGHT, TOP, BOTTOM = 0.08, 0.92, 0.38, 0.62
"""Where the band is, in shares of the camera's picture."""
_CELLS = TIME_BITS + CHECK_BITS
_SMALLEST = 0.02
"""Of the whole picture: a smaller patch of the ground's colour is not the camera."""


def paint(rgb: Rgb8, milliseconds: int) -> None:
    """Fill `rgb` with the ground and the band that says this time."""
    height, width = rgb.shape[:2]
    rgb[:] = GROUND
    top, bottom = round(TOP * height), round(BOTTOM * height)
    edges = np.rint(np.linspace(LEFT, RIGHT, _CELLS + 1) * width).astype(int)
    for bit, left, right in zip(_bits(milliseconds), edges, edges[1:], strict=False):
        rgb[top:bottom, left:right] = 255 if bit else 0


def read(rgb: Rgb8) -> int | None:
    """The time of the band; None where there is no camera's picture, or it is between two frames."""
    box = _find(rgb)
    if box is None:
        return None
    top, bottom, left, right = box
    height, width = bottom - top, right - left
    band = rgb[top + round(0.46 * height) : top + round(0.54 * height) + 1].mean(axis=(0, 2))
    cell = (RIGHT - LEFT) * width / _CELLS
    centres = left + LEFT * width + (np.arange(_CELLS) + 0.5) * cell
    reach = max(cell / 4, 0.5)
    levels = [
        float(band[max(0, round(at - reach)) : max(round(at + reach), round(at - reach) + 1)].mean())
        for at in centres
    ]
    bits = [level > 128 for level in levels]
    ticks = sum(1 << place for place, bit in enumerate(bits[:TIME_BITS]) if bit)
    return ticks * STEP if _bits(ticks * STEP) == bits else None


def age(stamp: int, now: int) -> int:
    """Milliseconds from the stamp to `now` (of the same clock, not wrapped)."""
    return (now - stamp) % WRAP


def _bits(milliseconds: int) -> list[bool]:
    ticks = milliseconds // STEP % (1 << TIME_BITS)
    nibbles = [ticks >> shift & 0xF for shift in range(0, TIME_BITS, 4)]
    check = 0x5
    for place, nibble in enumerate(nibbles):
        check = (check * 3 + nibble + place) & 0xF
    whole = ticks | check << TIME_BITS
    return [bool(whole >> place & 1) for place in range(_CELLS)]


def _find(rgb: Rgb8) -> tuple[int, int, int, int] | None:
    """Rows and columns (top, bottom, left, right) of the patch of the ground's colour."""
    red, green, blue = (rgb[:, :, index].astype(np.int16) for index in range(3))
    mask = (red - green > 50) & (blue - green > 50)
    if mask.mean() < _SMALLEST:
        return None
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    tall = np.flatnonzero(rows > 0.3 * rows.max())
    wide = np.flatnonzero(columns > 0.3 * columns.max())
    return int(tall[0]), int(tall[-1]) + 1, int(wide[0]), int(wide[-1]) + 1
