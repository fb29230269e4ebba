"""Zones: what lies inside, and which points make none."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.zones import MOST_POINTS, Zone, ZoneFault, area

SQUARE = Zone(((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)))
NOTCHED = Zone(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0)))


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ((0.5, 0.5), True),
        ((0.2, 0.5), True),
        ((0.8, 0.8), True),
        ((0.5, 0.2), True),
        ((0.19, 0.5), False),
        ((0.5, 0.81), False),
        ((0.9, 0.2), False),
        ((0.1, 0.8), False),
    ],
)
def test_a_square_with_its_border(point: tuple[float, float], inside: bool) -> None:
    assert SQUARE.contains(point) is inside


def test_a_notch_is_outside() -> None:
    assert not NOTCHED.contains((0.5, 0.9))
    assert NOTCHED.contains((0.1, 0.8))
    assert NOTCHED.contains((1.0, 1.0))


def test_whoever_is_cut_off_by_the_lower_edge_stands_in_a_zone_that_reaches_it() -> None:
    assert NOTCHED.contains((0.9, 1.0 - 0.1))
    assert Zone(((0, 0.5), (1, 0.5), (1, 1), (0, 1))).contains((0.4, 1.0))


def test_no_points_are_the_whole_picture() -> None:
    assert Zone().contains((0.0, 1.0))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (((0, 0), (1, 1)), "3 to 32 points, not 2"),
        (tuple((n / 40, n * n / 1600) for n in range(MOST_POINTS + 1)), "not 33"),
        (((0, 0), (1.1, 0), (1, 1)), "point 2 is outside"),
        (((0, 0), (math.nan, 0), (1, 1)), "point 2 is outside"),
        (((0, 0), (1, 0), (0, 0), (0, 1)), "twice"),
        (((0, 0), (1, 1), (1, 0), (0, 1)), "side from point 1 meets the one from point 3"),
        (((0, 0), (1, 0), (0.5, 0)), "meets"),
        (((0, 0), (0.001, 0), (0, 0.001)), "no area"),
        (((0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)), "meets"),
    ],
)
def test_points_that_make_no_zone(points: tuple[tuple[float, float], ...], words: str) -> None:
    with pytest.raises(ZoneFault, match=words):
        Zone(points)


@given(
    radii=st.lists(st.floats(0.1, 0.5), min_size=3, max_size=MOST_POINTS),
    turn=st.floats(0, math.tau),
    probes=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=5, max_size=20),
)
def test_stars_are_zones_and_agree_with_opencv(
    radii: list[float], turn: float, probes: list[tuple[float, float]]
) -> None:
    angles = [turn + math.tau * place / len(radii) for place in range(len(radii))]
    points = [(0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]
    zone = Zone.of([(min(max(x, 0), 1), min(max(y, 0), 1)) for x, y in points])
    contour = np.array(zone.points, np.float32).reshape(-1, 1, 2)
    for probe in probes:
        away = cv2.pointPolygonTest(contour, probe, True)
        if abs(away) > 1e-5:
            assert zone.contains(probe) is (away > 0)
    assert math.isclose(area(zone.points), cv2.contourArea(contour), abs_tol=1e-5)
