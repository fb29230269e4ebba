"""Tamper checks on real pictures of a street, and on what is made of them."""

import cv2
import numpy as np
import pytest

from analytics.detection import Bgr
from analytics.rules import Flag, make_judge
from foundation.desks import RuleSpec
from tests.analytics.looks import Scene, street, with_clock
from tests.peers.requirement import requires

pytestmark = requires("opencv-doc")


@pytest.fixture(scope="module")
def live() -> list[Bgr]:
    return street()


def said(kind: str, pictures: list[Bgr], **parameters: float) -> list[tuple[float, str]]:
    scene = Scene(make_judge(RuleSpec("r", "gate", kind, kind, (), parameters)))
    for second, picture in enumerate(pictures):
        scene.show(second, picture)
    for _, verdict in scene.verdicts:
        if isinstance(verdict, Flag):
            assert verdict.sample is not None
            assert verdict.sample.picture is pictures[int(verdict.sample.arrival)]
    return scene.said


@pytest.mark.parametrize("kind", ["black", "frozen", "blurred"])
def test_a_live_street_is_nothing(live: list[Bgr], kind: str) -> None:
    assert said(kind, live, seconds=2) == []
    assert said(kind, with_clock(live), seconds=2) == []


@pytest.mark.parametrize("level", [0, 16, 120, 250])
def test_a_covered_lens_is_black_whatever_its_colour_and_over_when_uncovered(
    live: list[Bgr], level: int
) -> None:
    cover = [np.full_like(live[0], level) for _ in range(15)]
    pictures = with_clock([*live[:10], *cover, *live[25:45]])
    assert said("black", pictures, seconds=5, recovery=10) == [(15, "Flag"), (34, "Over")]
    assert said("blurred", pictures, learning=5, seconds=2) == []


def test_noise_in_the_dark_is_black_too(live: list[Bgr]) -> None:
    chance = np.random.default_rng(1)
    dark = [np.asarray(chance.integers(0, 16, live[0].shape), np.uint8) for _ in range(10)]
    assert said("black", dark, seconds=3) == [(3, "Flag")]


def test_a_frozen_picture_is_seen_though_its_clock_goes_on(live: list[Bgr]) -> None:
    pictures = with_clock([*live[:10], *[live[10]] * 40, *live[50:70]])
    assert said("frozen", pictures, seconds=30, recovery=5) == [(41, "Flag"), (54, "Over")]
    assert said("frozen", pictures) == []  # forty seconds are nothing


def test_one_walker_in_an_empty_yard_is_life(live: list[Bgr]) -> None:
    pictures = []
    for second in range(120):
        picture = live[0].copy()
        x = 10 + 12 * min(second, 119 - second)
        cv2.rectangle(picture, (x, 300), (x + 25, 380), (40, 40, 200), -1)
        pictures.append(picture)
    assert said("frozen", pictures) == []


def test_an_empty_yard_has_the_noise_of_its_sensor(live: list[Bgr]) -> None:
    chance = np.random.default_rng(1)
    pictures = []
    for _ in range(70):
        noisy = live[0] + chance.normal(0, 2, live[0].shape)
        pictures.append(np.asarray(np.clip(noisy, 0, 255), np.uint8))
    assert said("frozen", pictures, seconds=30) == []


def test_a_frozen_picture_coded_again_and_again_is_still_frozen(live: list[Bgr]) -> None:
    coded = []
    for picture in with_clock([live[10]] * 40):
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        coded.append(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8))
    assert said("frozen", coded, seconds=30) == [(31, "Flag")]


def test_a_blurred_lens_against_what_the_camera_showed_before(live: list[Bgr]) -> None:
    blurred = [np.asarray(cv2.GaussianBlur(picture, (0, 0), 4), np.uint8) for picture in live[40:60]]
    pictures = with_clock([*live[:40], *blurred, *live[60:80]])
    assert said("blurred", pictures, seconds=10, recovery=5) == [(50, "Flag"), (64, "Over")]


def test_a_camera_that_was_blurred_before_we_looked(live: list[Bgr]) -> None:
    blurred = [np.asarray(cv2.GaussianBlur(picture, (0, 0), 12), np.uint8) for picture in live[:20]]
    assert said("blurred", blurred, seconds=10) == [(10, "Flag")]


def test_a_blurred_lens_is_not_learnt_as_the_usual_after_a_restart(live: list[Bgr]) -> None:
    scene = Scene(make_judge(RuleSpec("r", "gate", "blurred", "失焦", (), {"recovery": 5, "learning": 5})))
    scene.judge.resume(0)
    for second, picture in enumerate(live[:30]):
        scene.show(second, np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), np.uint8))
    assert scene.said == []
    for second, picture in enumerate(live[30:50], 30):
        scene.show(second, picture)
    assert scene.said == [(34, "Over")]
