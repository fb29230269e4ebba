"""Whether a camera still shows what it should: black or covered, frozen, blurred.

    measures = measure(sample.picture)                  # a few ms: in a thread
    Cover(24, 6, 0.9).sees(measures) -> bool            # and so Freeze, Blur

The picture is judged in 32 x 18 cells, so that a clock or a name that the camera writes into it changes
nothing: it covers a few cells only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analytics.detection import Bgr

Floats = NDArray[np.float32]

CELLS = (32, 18)
_THUMBNAIL = (256, 144)
_WIDEST = 960
"""Pixels; a wider picture is made smaller first."""
_SHARP_CELLS = 80
"""Percentile of the cells' sharpness that stands for the picture: sky has none, writing too much."""
_LEARNING_RATE = 0.02
_CLEARER = 2.5
"""Times as sharp as a picture that is known to be blurred: then it is not any more."""
_NO_SHARPNESS = 2.0
"""Below this a picture is blurred whatever was learnt; one in focus has hundreds."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Of one picture: mean and deviation of brightness in each cell (18 x 32), the variance of the Laplacian
    in the sharper cells, and a thumbnail (144 x 256)."""

    means: Floats
    deviations: Floats
    sharpness: float
    thumbnail: Floats


def measure(picture: Bgr) -> Measures:
    """What the checks need of a picture; not for the event loop."""
    height, width = picture.shape[:2]
    if width > _WIDEST:
        size = (_WIDEST, max(round(height * _WIDEST / width), CELLS[1]))
        smaller = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    else:
        smaller = picture
    grey = cv2.cvtColor(smaller, cv2.COLOR_BGR2GRAY).astype(np.float32)
    means, deviations = _cells(grey)
    _, edges = _cells(cv2.Laplacian(grey, cv2.CV_32F))
    return Measures(
        means,
        deviations,
        float(np.percentile(edges**2, _SHARP_CELLS)),
        np.asarray(cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32),
    )


def _cells(values: NDArray[Any]) -> tuple[Floats, Floats]:
    """Mean and deviation of each cell."""
    means = np.asarray(cv2.resize(values, CELLS, interpolation=cv2.INTER_AREA), np.float32)
    squares = np.asarray(cv2.resize(values * values, CELLS, interpolation=cv2.INTER_AREA), np.float32)
    return means, np.sqrt(np.maximum(squares - means * means, 0))


class Cover:
    """Black, or one flat ground whatever its colour: a covered, sprayed or unplugged camera.

    At least `share` of the cells are darker than `brightness` and nearly even, or even (`deviation`, in
    levels) and of one brightness.
    """

    def __init__(self, brightness: float = 24, deviation: float = 6, share: float = 0.9) -> None:
        self._brightness = brightness
        self._deviation = deviation
        self._share = share

    def resume(self) -> None:
        """Nothing was learnt that could be lost."""

    def sees(self, measures: Measures) -> bool:
        means, deviations = measures.means, measures.deviations
        dark = (means < self._brightness) & (deviations < 2 * self._deviation)
        alike = np.abs(means - np.median(means)) < 2 * self._deviation
        even = (deviations < self._deviation) & alike
        return max(float(dark.mean()), float(even.mean())) >= self._share


class Freeze:
    """Nothing changes but, always in the same places, at most `share` of the cells.

    A cell changes when its pixels differ by more than `difference` levels on average from a picture of
    before: light and a sensor's noise do that within a minute, unless a coder takes all noise away. Whoever
    walks through touches more and more cells, a clock does not. A picture that is frozen before a coder of
    few bits looks alive: better that than an alarm at every quiet night.
    """

    def __init__(self, difference: float = 0.5, share: float = 0.08) -> None:
        self._difference = difference
        self._share = share
        self._reference: Floats | None = None
        self._changed = np.zeros((CELLS[1], CELLS[0]), np.bool_)

    def resume(self) -> None:
        """The next picture is what the following ones are held against."""

    def sees(self, measures: Measures) -> bool:
        """Whether this picture is still the one of before; the first never is."""
        if self._reference is None:
            self._reference = measures.thumbnail
            return False
        away = cv2.resize(
            cv2.absdiff(measures.thumbnail, self._reference), CELLS, interpolation=cv2.INTER_AREA
        )
        self._changed |= np.asarray(away > self._difference)
        if float(self._changed.mean()) <= self._share:
            return True
        self._reference = measures.thumbnail
        self._changed[:] = False
        return False


class Blur:
    """Less than `sharpness` of what this camera's pictures usually have, learnt from `learning` of them."""

    def __init__(self, sharpness: float = 0.2, learning: int = 30) -> None:
        self._share = sharpness
        self._learning = learning
        self._learnt: list[float] = []
        self._usual: float | None = None
        self._resumed = False
        self._blurred: float | None = None
        self._cover = Cover()

    def resume(self) -> None:
        """It was blurred when the last process ended: what the first picture has is not the usual."""
        self._resumed = True

    def sees(self, measures: Measures) -> bool:
        """False while learning, but for a picture without any sharpness; a covered camera is not blurred."""
        if self._cover.sees(measures):
            return False
        if measures.sharpness < _NO_SHARPNESS:
            return True
        if self._resumed:
            self._blurred = measures.sharpness if self._blurred is None else self._blurred
            self._resumed = measures.sharpness < self._blurred * _CLEARER
            return self._resumed
        if self._usual is None:
            self._learnt.append(measures.sharpness)
            if len(self._learnt) >= self._learning:
                self._usual = float(np.median(self._learnt))
                self._learnt.clear()
            return False
        if measures.sharpness < self._share * self._usual:
            return True
        self._usual += _LEARNING_RATE * (measures.sharpness - self._usual)
        return False
