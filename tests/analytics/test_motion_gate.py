"""The gate opens for what moves, however small, and stays shut for noise."""

import cv2
import numpy as np

from analytics.motion_gate import Luma, MotionGate

WIDTH, HEIGHT = 1920, 1080


def scene(seed: int = 1) -> Luma:
    rough = np.random.default_rng(seed).integers(60, 180, (HEIGHT // 8, WIDTH // 8), np.uint8)
    return np.asarray(cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def noisy(picture: Luma, seed: int, sigma: float = 6.0) -> Luma:
    noise = cv2.resize(
        np.random.default_rng(seed).normal(0, sigma, (HEIGHT // 2, WIDTH // 2)).astype(np.float32),
        (WIDTH, HEIGHT),
        interpolation=cv2.INTER_NEAREST,
    )
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def with_person(picture: Luma, x: int, y: int) -> Luma:
    """Someone far away: 20 x 50 pixels of full HD."""
    copy = picture.copy()
    copy[y : y + 50, x : x + 20] = 20
    return copy


def test_a_still_scene_with_a_noisy_sensor_opens_it_for_the_first_picture_only() -> None:
    gate, ground = MotionGate(), scene()
    assert [gate.moved(noisy(ground, seed)) for seed in range(12)] == [True] + [False] * 11


def test_someone_small_who_comes_walks_and_goes_opens_it_each_time() -> None:
    gate, ground = MotionGate(), scene()
    for seed in range(3):
        gate.moved(noisy(ground, seed))
    walk = [gate.moved(noisy(with_person(ground, 300 + 40 * step, 500), step)) for step in range(8)]
    assert walk == [True] * 8
    assert gate.moved(ground), "gone is a change too"


def test_what_stays_becomes_ground() -> None:
    gate, ground = MotionGate(), scene()
    for _ in range(3):
        gate.moved(ground)
    still = [gate.moved(with_person(ground, 600, 400)) for _ in range(40)]
    assert still[:5] == [True] * 5
    assert still[-5:] == [False] * 5


def test_creeping_that_no_two_pictures_show_is_seen_against_the_ground() -> None:
    """A shadow that falls by two levels a picture."""
    gate, ground = MotionGate(), scene()
    for _ in range(3):
        gate.moved(ground)
    opened = []
    for step in range(1, 25):
        picture = ground.copy()
        picture[300:800, 500:1300] = np.clip(picture[300:800, 500:1300].astype(int) - 2 * step, 0, 255)
        opened.append(gate.moved(picture))
    assert not opened[0]
    assert opened[-1]
