"""Whether a site's name is written in a picture: compared with the same words painted by Pillow."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from orchestrator.font import find_font
from tests.peers.picture import Picture, Region, cut

SIZES = range(10, 29)


def best_name(picture: Picture, region: Region, names: tuple[str, ...]) -> tuple[str, float]:
    """The name that fits the region best at any size, and how well (1 is a perfect fit)."""
    seen = cv2.cvtColor(np.ascontiguousarray(cut(picture, region)), cv2.COLOR_RGB2GRAY)
    fits = {name: max(_fit(seen, name, size) for size in SIZES) for name in names}
    best = max(fits, key=fits.__getitem__)
    return best, fits[best]


def _fit(seen: NDArray[Any], name: str, size: int) -> float:
    path = find_font(None)
    assert path is not None, "the font of site names is not installed"
    font = ImageFont.truetype(str(path), size)
    painted = Image.new("L", (int(font.getlength(name)) + 4, size + size // 2), 60)
    ImageDraw.Draw(painted).text((2, 0), name, font=font, fill=235)
    words = np.asarray(painted)
    if words.shape[0] > seen.shape[0] or words.shape[1] > seen.shape[1]:
        return -1.0
    return float(cv2.matchTemplate(seen, words, cv2.TM_CCOEFF_NORMED).max())
