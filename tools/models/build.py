"""`python -m tools.models.build FOLDER`: NanoDet as a model package, converted and quantised to 8 bits.

The ranges of its tensors were measured once (`tools/models/calibrate.py`, ranges.json), so no video is needed
here and every build gives the same model. Weights keep to 7 bits: processors without VNNI add two products of
8 bits into 16 and would saturate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

from analytics.detector import Detector
from analytics.model_package import DESCRIPTION_FILE, MODEL_FILE, ModelFault, load
from tools.models.source import FOLDER, nanodet
from tools.models.tfjs_graph import ConversionError

RANGES = FOLDER / "ranges.json"
DESCRIPTION = FOLDER / "nanodet.yaml"
QUANTISED = ["Conv", "LeakyRelu", "Concat", "Add", "MaxPool", "Resize"]

Ranges = Mapping[str, tuple[float, float]]


def quantised(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The model with 8-bit convolutions (a scale a channel) and tensors; its outputs stay float32."""
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=QUANTISED,
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    onnx.checker.check_model(result)
    return result


def write(model: onnx.ModelProto, folder: Path) -> None:
    """Model and description into `folder`, each whole or not at all."""
    data = model.SerializeToString(deterministic=True)
    digest = hashlib.sha256(data).hexdigest()
    description = {"sha256": digest, **yaml.safe_load(DESCRIPTION.read_text())}
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(description, sort_keys=False, width=110).encode()
    for name, content in ((MODEL_FILE, data), (DESCRIPTION_FILE, text)):
        unfinished = folder / f"{name}.part"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 1 when no model came of it."""
    parser = argparse.ArgumentParser(prog="python -m tools.models.build", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the package goes")
    parser.add_argument("--single", type=Path, help="where one of single precision goes, too")
    asked = parser.parse_args(arguments)
    try:
        model = nanodet()
        if asked.single:
            write(model, asked.single)
        write(quantised(model, json.loads(RANGES.read_text())), asked.folder)
        detector = Detector(load(asked.folder))
    except (ConversionError, ModelFault) as error:
        print(f"no model: {error}", file=sys.stderr)
        return 1
    print(f"{asked.folder}: {detector.package.name}, SHA-256 {detector.package.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
