"""What somebody in a meeting sees and hears at one moment, whatever program shows it to them.

glimpse.share(colour)     which part of the picture has that colour: it does not matter in which tile
glimpse.level(hertz)      how loud that tone is, in dBFS; None when it does not stand out
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media.picture import Picture
from media.resampling import Samples, Upsampler
from media.sound_codecs import RATE
from orchestrator.demo.terminal.footage import TOLERANCE, Rgb
from orchestrator.demo.terminal.senses import Spectrum

Pixels = NDArray[np.uint8]
"""Height x width x 3, RGB; a coarse copy of the picture is enough."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """`frames` were decoded so far, `size` is that of the last one (width, height)."""

    frames: int
    size: tuple[int, int] | None = None
    pixels: Pixels | None = None
    sound: Spectrum | None = None

    def share(self, colour: Rgb) -> float:
        """The part of the picture, 0 to 1, that has the colour."""
        if self.pixels is None or not self.pixels.size:
            return 0.0
        distance = np.abs(self.pixels.astype(np.int16) - np.array(colour, np.int16)).max(axis=2)
        return float((distance <= TOLERANCE).mean())

    def level(self, hertz: float) -> float | None:
        return self.sound.level_of(hertz) if self.sound is not None and self.sound.has(hertz) else None


def coarse(picture: Picture, step: int = 8) -> Pixels:
    """The picture as RGB (ITU-R BT.601), each pixel the mean of `step` x `step`."""
    luma = _means(picture.y, step)
    blue, red = (_means(plane, step // 2)[: len(luma), : luma.shape[1]] for plane in (picture.u, picture.v))
    luma = luma[: len(blue), : blue.shape[1]]
    y, cb, cr = (luma - 16) / 219, 1.772 * (blue - 128) / 224, 1.402 * (red - 128) / 224
    rgb = np.stack((y + cr, y - (0.299 * cr + 0.114 * cb) / 0.587, y + cb), axis=2)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _means(plane: NDArray[np.uint8], step: int) -> NDArray[np.float64]:
    rows, columns = plane.shape[0] // step, plane.shape[1] // step
    whole = plane[: rows * step, : columns * step].astype(np.float64)
    means: NDArray[np.float64] = whole.reshape(rows, step, columns, step).mean(axis=(1, 3))
    return means


def spectrum(samples: Samples, rate: int) -> Spectrum:
    """Of mono sound at 8, 16, 24 or 48 kHz."""
    return Spectrum.of(samples if rate == RATE else Upsampler(RATE // rate).process(samples))
