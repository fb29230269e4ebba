"""The clock that the street's camera burns into its margin (tests.peers.street_program), read back."""

from pathlib import Path

import av
import numpy as np

from orchestrator.demo import stamp
from tests.peers.picture import Picture
from tests.peers.street_program import HEIGHT, MARGIN

WRAP = stamp.WRAP / 1000


def clock_of(picture: Picture, about: float) -> float | None:
    """When a picture (red, green, blue) was painted, in seconds since 1970 near `about`."""
    milliseconds = stamp.read(np.ascontiguousarray(picture[HEIGHT : HEIGHT + MARGIN]))
    if milliseconds is None:
        return None
    return milliseconds / 1000 + round((about - milliseconds / 1000) / WRAP) * WRAP


def pictures_of(path: Path) -> list[tuple[float, Picture]]:
    """Seconds of media time from the first picture, and the picture."""
    with av.open(str(path)) as container:
        frames = [
            (frame.time or 0.0, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    return [(at - frames[0][0], np.asarray(picture, np.uint8)) for at, picture in frames]


def clocks_of(path: Path, about: float) -> list[tuple[float, float]]:
    """Media time and clock of each picture whose clock can be read."""
    clocks = [(media, clock_of(picture, about)) for media, picture in pictures_of(path)]
    return [(media, clock) for media, clock in clocks if clock is not None]
