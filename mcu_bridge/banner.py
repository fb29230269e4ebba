"""A line of text over a composed picture: still in the middle if it fits, else running to the left.

The strip is opaque and lies along the top, where no site's name is, so that drawing it is a copy of its own
few rows and nothing under it need be drawn again.
"""

from __future__ import annotations

import numpy as np

from mcu_bridge.captions import CaptionPainter
from media.codecs import CLOCK
from media.picture import Colour, Plane

STRIP: Colour = (46, 170, 100)
TEXT_LUMA = 235
MOST_LETTERS = 500
WIDTH_SECONDS = 9
"""How long a letter takes to run across the picture."""


class Banner:
    """One text for canvases of one size. Compares by identity; any thread may draw it."""

    def __init__(self, text: str, width: int, height: int, painter: CaptionPainter) -> None:
        self.text = text
        self._width = width
        size = max(height // 20, 12)
        letters = painter.line(text[:MOST_LETTERS], size)
        self.height = min((letters.shape[0] + size // 2) // 2 * 2, height)
        above = max((self.height - letters.shape[0]) // 2, 0)
        self.running = letters.shape[1] > width - size
        blank = width if self.running else (width - letters.shape[1]) // 2
        strip = np.zeros((self.height, blank + max(letters.shape[1], width - blank)), np.float32)
        rows = min(letters.shape[0], self.height - above)
        strip[above : above + rows, blank : blank + letters.shape[1]] = letters[:rows] / 255
        strip = strip[:, : strip.shape[1] // 2 * 2]
        self._luma = np.rint(strip * TEXT_LUMA + (1 - strip) * STRIP[0]).astype(np.uint8)
        bare = 1 - strip.reshape(self.height // 2, 2, -1, 2).mean(axis=(1, 3))
        self._chroma = tuple(np.rint(128 + bare * (value - 128)).astype(np.uint8) for value in STRIP[1:])

    def offset(self, time: int) -> int:
        """How many pixels the text has run at `time` (1/90000 s): even, 0 for one that stands."""
        if not self.running:
            return 0
        run = time * self._width / WIDTH_SECONDS / CLOCK
        return int(run) % int(self._luma.shape[1]) // 2 * 2

    def draw(self, planes: tuple[Plane, Plane, Plane], offset: int) -> None:
        """Into the planes of a canvas of its size."""
        parts = (self._luma, *self._chroma)
        for plane, part, scale in zip(planes, parts, (1, 2, 2), strict=True):
            width, start = self._width // scale, offset // scale
            target = plane[: self.height // scale]
            first = part[:, start : start + width]
            target[:, : first.shape[1]] = first
            target[:, first.shape[1] :] = part[:, : width - first.shape[1]]
