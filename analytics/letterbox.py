"""A camera's picture as a model wants to see it, and boxes back again."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from analytics.detection import Bgr
from analytics.model_package import ModelInput

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture lies on a model's input: `width` x `height` all in all, the picture `shown_width` x
    `shown_height` of it from (`left`, `top`); all in the model's pixels."""

    width: int
    height: int
    left: int
    top: int
    shown_width: int
    shown_height: int

    @classmethod
    def of(cls, wanted: ModelInput, width: int, height: int) -> Letterbox:
        """How a picture of `width` x `height` is laid out for a model."""
        if not wanted.letterbox:
            return cls(wanted.width, wanted.height, 0, 0, wanted.width, wanted.height)
        scale = min(wanted.width / width, wanted.height / height)
        shown_width, shown_height = max(round(width * scale), 1), max(round(height * scale), 1)
        ground_width, ground_height = wanted.width, wanted.height
        if wanted.multiple:
            ground_width = -(-shown_width // wanted.multiple) * wanted.multiple
            ground_height = -(-shown_height // wanted.multiple) * wanted.multiple
        left, top = (ground_width - shown_width) // 2, (ground_height - shown_height) // 2
        return cls(ground_width, ground_height, left, top, shown_width, shown_height)

    def tensor(self, picture: Bgr, wanted: ModelInput) -> Tensor:
        """The picture as the model's input, 1 x 3 x height x width."""
        size = (self.shown_width, self.shown_height)
        shrinks = picture.shape[1] > 2 * size[0]  # bilinear alone would leave out pixels between
        shown = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if wanted.colours == "rgb":
            shown = shown[:, :, ::-1]
        mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (wanted.mean, wanted.std))
        tensor = np.empty((1, 3, self.height, self.width), np.float32)
        tensor[0] = (wanted.fill - mean) / std
        rows, columns = slice(self.top, self.top + size[1]), slice(self.left, self.left + size[0])
        normalised = np.subtract(shown.transpose(2, 0, 1), mean, dtype=np.float32)
        np.divide(normalised, std, out=tensor[0, :, rows, columns])
        return tensor

    def shares(self, boxes: Tensor) -> Tensor:
        """Boxes (n x 4: x1, y1, x2, y2 in the model's pixels) as fractions of the picture, within 0..1."""
        start = np.array((self.left, self.top, self.left, self.top), np.float32)
        size = np.array((self.shown_width, self.shown_height) * 2, np.float32)
        shares: Tensor = np.clip((boxes - start) / size, 0.0, 1.0)
        return shares
