"""The outputs of YOLO models as their exporters write them: one tensor, a column or row a box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analytics.decoding import Candidates, thresholds
from analytics.letterbox import Tensor
from analytics.model_package import ModelDescription

STRIDES = (8, 16, 32)


class Yolo8:
    """YOLOv8 and later ones of its family: 1 x (4 + classes) x boxes; middle and size in pixels, then the
    scores of the classes."""

    def __init__(self, description: ModelDescription) -> None:
        self._classes = len(description.classes)
        self._thresholds = thresholds(description)

    def expected(self, width: int, height: int) -> str:
        return f"one output 1x{4 + self._classes}x{_cells(width, height)}"

    def fits(self, outputs: Sequence[Tensor], width: int, height: int) -> bool:
        return [one.shape for one in outputs] == [(1, 4 + self._classes, _cells(width, height))]

    def decode(self, outputs: Sequence[Tensor], width: int, height: int) -> Candidates:
        columns = outputs[0][0]
        classes, boxes = np.nonzero(columns[4:] >= self._thresholds[:, np.newaxis])
        return Candidates(_corners(columns[:4, boxes].T), columns[4 + classes, boxes], classes)


class Yolo5:
    """YOLOv5 (and v7): 1 x boxes x (5 + classes); middle and size in pixels, whether there is an object at
    all, then the classes' shares of that. Three anchors a cell."""

    ANCHORS = 3

    def __init__(self, description: ModelDescription) -> None:
        self._classes = len(description.classes)
        self._thresholds = thresholds(description)

    def expected(self, width: int, height: int) -> str:
        return f"one output 1x{self.ANCHORS * _cells(width, height)}x{5 + self._classes}"

    def fits(self, outputs: Sequence[Tensor], width: int, height: int) -> bool:
        wanted = (1, self.ANCHORS * _cells(width, height), 5 + self._classes)
        return [one.shape for one in outputs] == [wanted]

    def decode(self, outputs: Sequence[Tensor], width: int, height: int) -> Candidates:
        rows = self._rows(outputs[0][0], width, height)
        scores = rows[:, 5:] * rows[:, 4:5]
        boxes, classes = np.nonzero(scores >= self._thresholds)
        return Candidates(_corners(rows[boxes, :4]), scores[boxes, classes], classes)

    def _rows(self, rows: Tensor, width: int, height: int) -> Tensor:
        return rows


class YoloX(Yolo5):
    """YOLOX as its exporter writes it: like YOLOv5 without anchors, but the middle counts cells from its own,
    and the size is a logarithm."""

    ANCHORS = 1

    def _rows(self, rows: Tensor, width: int, height: int) -> Tensor:
        cells, strides = _grid(width, height)
        middles = (rows[:, :2] + cells) * strides
        sizes = np.exp(rows[:, 2:4]) * strides
        return np.concatenate((middles, sizes, rows[:, 4:]), axis=1)


def _cells(width: int, height: int) -> int:
    return sum((width // stride) * (height // stride) for stride in STRIDES)


def _grid(width: int, height: int) -> tuple[Tensor, Tensor]:
    """Column and row of each cell (n x 2) and its stride (n x 1), level after level, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        across, down = width // stride, height // stride
        columns, rows = np.meshgrid(np.arange(across), np.arange(down))
        cells.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        strides.append(np.full((across * down, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _corners(boxes: Tensor) -> Tensor:
    """Middle and size (n x 4) to corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)
