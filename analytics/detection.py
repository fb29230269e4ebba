"""What one look at a camera found: where the seeing half of analytics and the judging half meet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Bgr = NDArray[np.uint8]
"""A picture as OpenCV has it: height x width x 3, blue green red, 0..255."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle as fractions of the picture, 0..1 from its upper left corner; `x1 <= x2`, `y1 <= y2`."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        return self.y2 - self.y1

    @property
    def bottom_centre(self) -> tuple[float, float]:
        """Where what is in the box stands, as fractions of the picture (x, y)."""
        return (self.x1 + self.x2) / 2, self.y2

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        across = min(self.x2, other.x2) - max(self.x1, other.x1)
        down = min(self.y2, other.y2) - max(self.y1, other.y1)
        if across <= 0 or down <= 0:
            return 0.0
        shared = across * down
        if shared <= 0:  # of boxes thinner than numbers can tell
            return 0.0
        return shared / (self.width * self.height + other.width * other.height - shared)


@dataclass(frozen=True, slots=True)
class Detection:
    """One object. `label` is the model's class name ("person"), `score` 0..1."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled picture of a camera and what was seen in it.

    `pts` is media time in seconds on the stream's own clock (it starts anywhere, and jumps when the stream is
    opened anew), `at` the wall clock of its arrival (aware), `arrival` monotonic seconds on this machine.
    `picture` is of the camera's own size and must not be written to. `detections` is None when nobody
    looked, as the motion gate was shut; an empty tuple when the model looked and found nothing. `moved` says
    whether anything moved since the sample before.
    """

    camera_id: str
    pts: float
    at: datetime
    arrival: float
    picture: Bgr
    detections: tuple[Detection, ...] | None
    moved: bool


@dataclass(frozen=True, slots=True)
class StreamLost:
    """A camera gives no picture to look at: no stream, a silent one, or one that cannot be decoded.

    Said at once and again with every failed try, until a `Sample` comes. `since` is monotonic seconds of the
    last picture (of the first try, where there was none yet); `at` the wall clock and `arrival` the monotonic
    clock now. `reason` says who erred, in words for an operator.
    """

    camera_id: str
    at: datetime
    arrival: float
    since: float
    reason: str


Seen = Sample | StreamLost
"""What a sampler gives: `async for seen in sampler`."""
