"""Pictures to detections with a model package.

    detector = Detector(package)                     # ModelFault when the model does not do what it says
    detector.detect(picture) -> tuple[Detection, ...]

Synchronous, for a worker thread: onnxruntime lets go of the GIL while it computes. One detector a thread with
one thread of its own inside: two would waste cores, and spinning would take them from sound and signalling.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnxruntime

from analytics.decoding import Decoder
from analytics.detection import Bgr, Box, Detection
from analytics.letterbox import Letterbox, Tensor
from analytics.model_package import ModelFault, ModelPackage
from analytics.nanodet import NanoDet
from analytics.yolo import Yolo5, Yolo8, YoloX

DECODERS: Mapping[str, type[Decoder]] = MappingProxyType(
    {"nanodet": NanoDet, "yolov5": Yolo5, "yolov8": Yolo8, "yolox": YoloX}
)


class Detector:
    """One session of a model. Raises ModelFault when the model cannot be opened, takes or gives other shapes
    than its package says, or nobody here knows its decoder: it runs once, on a blank picture."""

    def __init__(self, package: ModelPackage) -> None:
        self.package = package
        self._description = package.description
        self._decoder = _decoder(package)
        self._session = _open(package)
        self._input_name = self._check_input()
        size = self._description.input
        self.first_seconds = self._try(np.zeros((size.height, size.width, 3), np.uint8))
        if size.multiple:
            self._try(np.zeros((size.multiple, size.width, 3), np.uint8))

    def detect(self, picture: Bgr) -> tuple[Detection, ...]:
        """What is in a picture (height x width x 3), the surest first. Not for the event loop."""
        layout = Letterbox.of(self._description.input, picture.shape[1], picture.shape[0])
        outputs = self._run(layout.tensor(picture, self._description.input))
        found = self._decoder.decode(outputs, layout.width, layout.height)
        found = found.without_duplicates(self._description.overlap)
        boxes: list[list[float]] = layout.shares(found.boxes).tolist()
        classes = self._description.classes
        return tuple(
            Detection(classes[label], score, Box(*box))
            for label, score, box in zip(found.classes, found.scores.tolist(), boxes, strict=True)
        )

    def _run(self, tensor: Tensor) -> Sequence[Tensor]:
        outputs: Sequence[Tensor] = self._session.run(None, {self._input_name: tensor})
        return outputs

    def _check_input(self) -> str:
        inputs, size = self._session.get_inputs(), self._description.input
        wanted = (1, 3, "any" if size.multiple else size.height, "any" if size.multiple else size.width)
        given = [one.shape for one in inputs]
        fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(given[0]) == 4
        fits = fits and all(
            not isinstance(has, int) or has == wants for has, wants in zip(given[0], wanted, strict=True)
        )
        if not fits:
            raise ModelFault(
                f"{self.package.model_path}: its input is {_words(given)}, "
                f"model.yaml expects one of float32 {_words([wanted])}"
            )
        return str(inputs[0].name)

    def _try(self, picture: Bgr) -> float:
        """Runs a picture and holds the outputs against the decoder's; the seconds it took."""
        layout = Letterbox.of(self._description.input, picture.shape[1], picture.shape[0])
        began = time.perf_counter()
        try:
            outputs = self._run(layout.tensor(picture, self._description.input))
        except Exception as error:  # onnxruntime raises classes of its own that share no base but this
            raise ModelFault(
                f"{self.package.model_path}: fails on a picture of {layout.width}x{layout.height}: "
                f"{_line(error)}"
            ) from None
        if not self._decoder.fits(outputs, layout.width, layout.height):
            raise ModelFault(
                f"{self.package.model_path}: for a picture of {layout.width}x{layout.height} it gives "
                f"{_words([output.shape for output in outputs])}; a {self._description.decoder} of "
                f"{len(self._description.classes)} classes gives "
                f"{self._decoder.expected(layout.width, layout.height)}"
            )
        return time.perf_counter() - began


def _decoder(package: ModelPackage) -> Decoder:
    kind = DECODERS.get(package.description.decoder)
    if kind is None:
        raise ModelFault(
            f"{package.folder / 'model.yaml'}: nobody here knows the decoder "
            f"{package.description.decoder!r}; known: {', '.join(DECODERS)}"
        )
    return kind(package.description)


def _open(package: ModelPackage) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(package.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ModelFault(f"{package.model_path}: no model that onnxruntime takes: {_line(error)}") from None


def _words(shapes: Sequence[Sequence[object]]) -> str:
    return ", ".join("x".join(str(side) for side in shape) for shape in shapes) or "nothing"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
