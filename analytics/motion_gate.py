"""Whether anything moved since the last picture: looking is dear, and mostly there is nothing to see."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]
"""Brightness alone: height x width, 0..255."""

Gray = NDArray[np.integer[Any] | np.floating[Any]]
"""The same, as OpenCV's stubs have it."""

WIDTH, HEIGHT = 320, 180
"""What is compared: a person 20 pixels wide in a full-HD picture is still 3 wide."""
LEARNING = 0.1
"""The weight of a new picture in the ground that it is compared with: at a picture a second, what stays
becomes ground in a quarter of a minute or so."""


class MotionGate:
    """Compares each picture with the one before and with the slowly learnt ground.

    A difference counts from `contrast` levels of brightness, after a blur that takes the noise away; the gate
    opens when at least `area` pixels of 320 x 180 differ. Against the ground it also sees what creeps. A
    change of light opens it too: a look too many costs little.
    """

    def __init__(self, contrast: int = 16, area: int = 12) -> None:
        self._contrast = contrast
        self._area = area
        self._before: Gray | None = None
        self._ground: NDArray[np.float32] | None = None

    def moved(self, luma: Luma) -> bool:
        """True for the first picture, and for one in which something is elsewhere than before."""
        small: Gray = cv2.resize(luma, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (3, 3), 0)
        before, ground = self._before, self._ground
        self._before = small
        if before is None or ground is None:
            self._ground = small.astype(np.float32)
            return True
        known = cv2.convertScaleAbs(ground)
        moved = self._differ(small, before) or self._differ(small, known)
        cv2.accumulateWeighted(small, ground, LEARNING)
        return moved

    def _differ(self, one: Gray, other: Gray) -> bool:
        return int(np.count_nonzero(cv2.absdiff(one, other) >= self._contrast)) >= self._area
