"""Decoded pictures as they pass between decoders, composers, encoders and samplers.

Picture(y, u, v, time, sample_aspect=1.0)      planes, media time in 1/90000 s, shape of one sample
Picture.blank(width, height, yuv) -> Picture
Picture.over(buffer) -> Picture                  over one contiguous I420 array
BLACK: Colour                                    a limited-range YUV triple
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
Colour = tuple[int, int, int]

BLACK: Colour = (16, 128, 128)
"""Limited-range black (ITU-R BT.601 / BT.709): luma 16, chroma 128."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Picture:
    """One planar YUV 4:2:0 picture, 8 bits, limited range.

    `y` is (height, width); `u` and `v` are (ceil(height / 2), ceil(width / 2)). Rows may be padded (strided
    views of a decoder's own memory), samples within a row are adjacent. The planes belong to whoever made the
    picture and are never written again while it is referenced: hold the picture, not its planes alone.
    `time` is media time in 1/90000 s; `sample_aspect` is the width of a sample over its height (CIF: 12/11).
    """

    y: Plane
    u: Plane
    v: Plane
    time: int = 0
    sample_aspect: float = 1.0
    buffer: Plane | None = None
    """The (height * 3 / 2, width) I420 array behind the planes, if any: encoders take it uncopied."""
    arrival: float = 0.0
    """When what it shows came here, monotonic seconds; 0 where nobody knows."""

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    @property
    def aspect(self) -> float:
        """Width over height as shown."""
        return self.width * self.sample_aspect / self.height

    @property
    def planes(self) -> tuple[Plane, Plane, Plane]:
        return self.y, self.u, self.v

    @classmethod
    def over(cls, buffer: Plane, time: int = 0, sample_aspect: float = 1.0, arrival: float = 0.0) -> Picture:
        """The picture laid over a contiguous (height * 3 / 2, width) I420 array; both sizes even."""
        rows, width = buffer.shape
        height = rows * 2 // 3
        if width % 2 or height % 2 or height * 3 != rows * 2:
            raise ValueError(f"an I420 array of shape {buffer.shape} is not of even width and height")
        flat = buffer.reshape(-1)
        luma, chroma = width * height, width * height // 4
        half = (height // 2, width // 2)
        return cls(
            flat[:luma].reshape(height, width),
            flat[luma : luma + chroma].reshape(half),
            flat[luma + chroma :].reshape(half),
            time,
            sample_aspect,
            buffer,
            arrival,
        )

    @classmethod
    def blank(cls, width: int, height: int, colour: Colour = BLACK, time: int = 0) -> Picture:
        """A picture of one colour, in memory of its own; any size."""
        half = ((height + 1) // 2, (width + 1) // 2)
        if width % 2 or height % 2:
            return cls(
                np.full((height, width), colour[0], np.uint8),
                np.full(half, colour[1], np.uint8),
                np.full(half, colour[2], np.uint8),
                time,
            )
        picture = cls.over(np.empty((height * 3 // 2, width), np.uint8), time)
        for plane, value in zip(picture.planes, colour, strict=True):
            plane.fill(value)
        return picture
