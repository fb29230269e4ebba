"""NanoDet's weights as npm brings them, held to their digests, as an ONNX model of single precision."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from tools.models.tfjs_graph import ConversionError, convert

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "node_modules" / "@vladmandic" / "human-models" / "models"
DIGESTS = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
"""SHA-256 of the files that were tried."""
OUTPUTS = {
    "Identity": "scores_8",
    "Identity_1": "scores_16",
    "Identity_2": "scores_32",
    "Identity_3": "sides_8",
    "Identity_4": "sides_16",
    "Identity_5": "sides_32",
}
"""Names for the graph's outputs: what they are, and at which stride."""


def nanodet(folder: Path = WEIGHTS) -> onnx.ModelProto:
    """The model of single precision. Raises ConversionError when the files are others than expected."""
    for name, expected in DIGESTS.items():
        try:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ConversionError(f"{folder / name}: cannot be read: {error.strerror}") from None
        if digest != expected:
            raise ConversionError(f"{folder / name}: its SHA-256 is {digest}, expected is {expected}")
    return convert(folder / "nanodet.json", OUTPUTS)
