"""From a model's outputs to boxes: what decoders share. `model.yaml` says which one a model needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from analytics.letterbox import Tensor
from analytics.model_package import ModelDescription

MOST_CANDIDATES = 1000
"""Boxes of one picture that are looked at, the best first: a model that finds more has gone astray."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes over their thresholds. `boxes`: n x 4 (x1, y1, x2, y2 in the pixels of the model), `scores`: n,
    `classes`: n, as places in the list of the description."""

    boxes: Tensor
    scores: Tensor
    classes: NDArray[np.intp]

    def without_duplicates(self, overlap: float) -> Candidates:
        """The best first, without those that overlap a better one of their class by more than this (IoU)."""
        if not len(self.scores):
            return self
        best = np.argsort(-self.scores)[:MOST_CANDIDATES]
        boxes, scores, classes = self.boxes[best], self.scores[best], self.classes[best]
        corners_and_sizes = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
        suppressed = cv2.dnn.NMSBoxesBatched(
            corners_and_sizes.tolist(), scores.tolist(), classes.tolist(), 0.0, overlap
        )
        kept = np.array(suppressed, np.intp)
        kept.sort()
        return Candidates(boxes[kept], scores[kept], classes[kept])


class Decoder(Protocol):
    """Knows one family of models."""

    def __init__(self, description: ModelDescription) -> None: ...

    def expected(self, width: int, height: int) -> str:
        """The outputs for an input of this size, in words for whoever made the model."""
        ...

    def fits(self, outputs: Sequence[Tensor], width: int, height: int) -> bool:
        """Whether outputs of these shapes are this family's."""
        ...

    def decode(self, outputs: Sequence[Tensor], width: int, height: int) -> Candidates:
        """Boxes over their thresholds, duplicates and all, of outputs that fit."""
        ...


def thresholds(description: ModelDescription) -> Tensor:
    """The threshold of each class, in their order."""
    return np.array([description.threshold(label) for label in description.classes], np.float32)
