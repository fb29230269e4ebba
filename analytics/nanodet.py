"""NanoDet's outputs (RangiLyu/nanodet, three levels): generalised focal loss, box sides as distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analytics.decoding import Candidates, thresholds
from analytics.letterbox import Tensor
from analytics.model_package import ModelDescription

STRIDES = (8, 16, 32)
BINS = 11
"""Each side of a box lies 0 to 10 strides from the middle of its cell; the model gives a weight to each."""


class NanoDet:
    """Six outputs in any order: for each stride the scores (cells x classes, after the sigmoid) and the four
    sides' distributions (cells x 44: left, top, right, bottom), cells row by row."""

    def __init__(self, description: ModelDescription) -> None:
        self._classes = len(description.classes)
        self._thresholds = thresholds(description)

    def expected(self, width: int, height: int) -> str:
        shapes = [
            f"1x{cells}x{last}" for cells in _cells(width, height) for last in (self._classes, 4 * BINS)
        ]
        return f"six outputs {', '.join(shapes)}"

    def fits(self, outputs: Sequence[Tensor], width: int, height: int) -> bool:
        wanted = [(1, cells, last) for cells in _cells(width, height) for last in (self._classes, 4 * BINS)]
        return sorted(output.shape for output in outputs) == sorted(wanted)

    def decode(self, outputs: Sequence[Tensor], width: int, height: int) -> Candidates:
        by_shape = {output.shape[1:]: output[0] for output in outputs}
        parts = [
            self._level(by_shape[cells, self._classes], by_shape[cells, 4 * BINS], width, stride)
            for cells, stride in zip(_cells(width, height), STRIDES, strict=True)
        ]
        return Candidates(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
        )

    def _level(self, scores: Tensor, sides: Tensor, width: int, stride: int) -> Candidates:
        cells, classes = np.nonzero(scores >= self._thresholds)
        weights = sides[cells].reshape(-1, 4, BINS)
        weights = np.exp(weights - weights.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        left, top, right, bottom = (weights @ np.arange(BINS, dtype=np.float32) * stride).T
        row, column = np.divmod(cells, -(-width // stride))
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        boxes = np.stack((x - left, y - top, x + right, y + bottom), axis=1).astype(np.float32)
        return Candidates(boxes, scores[cells, classes], classes)


def _cells(width: int, height: int) -> list[int]:
    return [-(-width // stride) * -(-height // stride) for stride in STRIDES]
