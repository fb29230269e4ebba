"""The models of `make setup`, and pictures of people: Debian's vtest.avi."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import pytest

from analytics.detection import Bgr
from analytics.detector import Detector
from analytics.model_package import DEFAULT_MODEL, MODELS, ModelPackage, load

CLIP = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")


@pytest.fixture(scope="session")
def nanodet() -> ModelPackage:
    return load(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def detector(nanodet: ModelPackage) -> Detector:
    return Detector(nanodet)


@pytest.fixture(scope="session")
def single_detector() -> Detector:
    """The same model before it was quantised."""
    return Detector(load(MODELS.parent / "nanodet-single"))


@pytest.fixture(scope="session")
def clip() -> Mapping[int, Bgr]:
    """Every tenth frame of people who walk about a yard, 768 x 576; frame 10 apart is a second."""
    capture = cv2.VideoCapture(str(CLIP))
    frames: dict[int, Bgr] = {}
    number = 0
    while capture.grab():
        if number % 10 == 0:
            frames[number] = capture.retrieve()[1]
        number += 1
    assert number == 795
    return frames
