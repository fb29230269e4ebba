"""The clock in the demonstration's picture survives scaling, codecs and a place in a mosaic."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.demo import stamp


def painted(milliseconds: int, width: int = 640, height: int = 360) -> stamp.Rgb8:
    picture = np.zeros((height, width, 3), np.uint8)
    stamp.paint(picture, milliseconds)
    return picture


@given(st.integers(0, 4 * stamp.WRAP))
def test_every_time_is_read_back(milliseconds: int) -> None:
    assert stamp.read(painted(milliseconds)) == milliseconds // stamp.STEP * stamp.STEP % stamp.WRAP


@pytest.mark.parametrize(("width", "height"), [(640, 360), (426, 240), (320, 180), (1280, 720)])
def test_read_in_a_mosaic_after_jpeg(width: int, height: int) -> None:
    tile = cv2.resize(painted(31_456_000), (width, height), interpolation=cv2.INTER_AREA)
    mosaic = np.full((720, 1280, 3), (30, 140, 60), np.uint8)
    top, left = (720 - height) // 3, (1280 - width) // 2
    mosaic[top : top + height, left : left + width] = tile
    coded = cv2.imencode(".jpg", mosaic, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    seen = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert stamp.read(np.asarray(seen, np.uint8)) == 31_456_000


def test_two_frames_in_one_are_no_time() -> None:
    blended = (painted(4_000_000).astype(int) + painted(4_000_000 + 63 * stamp.STEP)) // 2
    assert stamp.read(blended.astype(np.uint8)) in (None, 4_000_000, 4_000_000 + 63 * stamp.STEP)


def test_no_camera_no_time() -> None:
    assert stamp.read(np.full((360, 640, 3), (30, 140, 60), np.uint8)) is None
    plain = np.zeros((360, 640, 3), np.uint8)
    plain[:] = stamp.GROUND
    assert stamp.read(plain) is None


def test_age_over_the_wrap() -> None:
    assert stamp.age(stamp.WRAP - 80, 3 * stamp.WRAP + 120) == 200
