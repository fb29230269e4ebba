"""YOLO outputs made by hand: boxes land where their exporters mean them."""

from collections.abc import Sequence

import numpy as np
import pytest

from analytics.decoding import Candidates, Decoder
from analytics.detector import DECODERS
from analytics.letterbox import Tensor
from analytics.model_package import ModelDescription, ModelInput

WIDTH, HEIGHT = 64, 32
CELLS = 8 * 4 + 4 * 2 + 2 * 1


def decoder(name: str) -> Decoder:
    description = ModelDescription(
        name="helmets",
        sha256="0" * 64,
        licence="none",
        decoder=name,
        input=ModelInput(width=WIDTH, height=HEIGHT, colours="rgb"),
        classes=("helmet", "head", "vest"),
        thresholds={"default": 0.5, "head": 0.3},
    )
    return DECODERS[name](description)


def decoded(name: str, output: Tensor) -> Candidates:
    made = decoder(name)
    assert made.fits([output], WIDTH, HEIGHT), made.expected(WIDTH, HEIGHT)
    return made.decode([output], WIDTH, HEIGHT)


def listed(found: Candidates) -> list[tuple[list[float], float, int]]:
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    return sorted(((box, round(score, 4), label) for box, score, label in rows), key=lambda row: row[2])


def test_yolov8_has_a_column_a_box() -> None:
    output = np.zeros((1, 7, CELLS), np.float32)
    output[0, :, 3] = (20, 10, 8, 4, 0.9, 0.29, 0.1)
    output[0, :, 40] = (40, 20, 10, 20, 0.1, 0.31, 0.49)
    assert listed(decoded("yolov8", output)) == [([16, 8, 24, 12], 0.9, 0), ([35, 10, 45, 30], 0.31, 1)]


def test_yolov5_weighs_classes_with_whether_there_is_anything() -> None:
    output = np.zeros((1, 3 * CELLS, 8), np.float32)
    output[0, 7] = (20, 10, 8, 4, 0.8, 0.75, 0.3, 0.1)
    output[0, 100] = (40, 20, 10, 20, 0.5, 0.9, 0.9, 0.0)
    assert listed(decoded("yolov5", output)) == [([16, 8, 24, 12], 0.6, 0), ([35, 10, 45, 30], 0.45, 1)]


@pytest.mark.parametrize(
    ("row", "stride", "cell"), [(8 * 2 + 5, 8, (5, 2)), (32 + 4 + 3, 16, (3, 1)), (32 + 8 + 1, 32, (1, 0))]
)
def test_yolox_counts_from_the_cell_and_sizes_are_logarithms(
    row: int, stride: int, cell: tuple[int, int]
) -> None:
    output = np.zeros((1, CELLS, 8), np.float32)
    output[0, row] = (0.5, 0.25, np.log(2), 0, 1.0, 0.75, 0, 0)
    [(box, score, label)] = listed(decoded("yolox", output))
    x, y = (cell[0] + 0.5) * stride, (cell[1] + 0.25) * stride
    assert box == pytest.approx([x - stride, y - stride / 2, x + stride, y + stride / 2], abs=1e-4)
    assert (score, label) == (0.75, 0)


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("yolov8", [(1, 84, CELLS)], f"one output 1x7x{CELLS}"),
        ("yolov5", [(1, CELLS, 8)], f"one output 1x{3 * CELLS}x8"),
        ("yolox", [(1, CELLS, 8), (1, CELLS, 8)], f"one output 1x{CELLS}x8"),
    ],
)
def test_other_shapes_do_not_fit(name: str, shapes: Sequence[tuple[int, ...]], expected: str) -> None:
    made = decoder(name)
    assert not made.fits([np.zeros(shape, np.float32) for shape in shapes], WIDTH, HEIGHT)
    assert made.expected(WIDTH, HEIGHT) == expected


@pytest.mark.parametrize("name", ["yolov5", "yolov8", "yolox"])
def test_nothing_over_its_threshold_gives_nothing(name: str) -> None:
    shapes = {"yolov8": (1, 7, CELLS), "yolov5": (1, 3 * CELLS, 8), "yolox": (1, CELLS, 8)}
    found = decoded(name, np.zeros(shapes[name], np.float32)).without_duplicates(0.5)
    assert listed(found) == []
