"""What `make setup` makes models with refuses other files, and graphs that it does not know."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tools.models.source import DIGESTS, nanodet
from tools.models.tfjs_graph import ConversionError, convert


def test_other_weights_than_those_that_were_tried_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"nanodet\.json: cannot be read: No such file"):
        nanodet(tmp_path)
    (tmp_path / "nanodet.json").write_text("{}")
    with pytest.raises(ConversionError) as refusal:
        nanodet(tmp_path)
    assert f"{tmp_path / 'nanodet.json'}: its SHA-256 is 44136fa355b3678a" in str(refusal.value)
    assert f"expected is {DIGESTS['nanodet.json']}" in str(refusal.value)


def graph(path: Path, *nodes: dict[str, object], weights: dict[str, np.ndarray] | None = None) -> Path:
    """A graph model of these nodes over a picture of 1 x 2 x 6 x 8, its constants in half precision."""
    entry = {
        "name": "shown",
        "op": "Placeholder",
        "attr": {"shape": {"shape": {"dim": [{"size": str(side)} for side in (1, 2, 6, 8)]}}},
    }
    constants = weights or {}
    manifest = [
        {
            "name": name,
            "shape": list(values.shape),
            "dtype": str(values.dtype),
            **({"quantization": {"dtype": "float16"}} if values.dtype == np.float32 else {}),
        }
        for name, values in constants.items()
    ]
    data = b"".join(
        (values.astype(np.float16) if values.dtype == np.float32 else values).tobytes()
        for values in constants.values()
    )
    (path / "graph.bin").write_bytes(data)
    document = {
        "modelTopology": {"node": [entry, *({"name": name, "op": "Const"} for name in constants), *nodes]},
        "weightsManifest": [{"paths": ["graph.bin"], "weights": manifest}],
    }
    (path / "graph.json").write_text(json.dumps(document))
    return path / "graph.json"


def test_a_convolution_over_nhwc_computes_the_same_over_nchw(tmp_path: Path) -> None:
    """Transposed, padded, convolved with a bias, and transposed back, against numpy."""
    rng = np.random.default_rng(5)
    kernel = rng.normal(size=(3, 3, 2, 4)).astype(np.float16).astype(np.float32)
    bias = rng.normal(size=(1, 1, 1, 4)).astype(np.float16).astype(np.float32)
    ones = {"list": {"i": ["1", "1", "1", "1"]}}
    path = graph(
        tmp_path,
        {"name": "padded", "op": "Pad", "input": ["shown", "pads"]},
        {"name": "nhwc", "op": "Transpose", "input": ["padded", "to_nhwc"]},
        {
            "name": "conv",
            "op": "Conv2D",
            "input": ["nhwc", "kernel"],
            "attr": {"padding": {"s": "VkFMSUQ="}, "strides": {"list": {"i": ["1", "2", "2", "1"]}}}
            | {"dilations": ones},
        },
        {"name": "biased", "op": "Add", "input": ["conv", "bias"]},
        {"name": "out", "op": "Identity", "input": ["biased"]},
        weights={
            "pads": np.array([[0, 0], [0, 0], [1, 1], [1, 1]], np.int32),
            "to_nhwc": np.array([0, 2, 3, 1], np.int32),
            "kernel": kernel,
            "bias": bias,
        },
    )
    model = convert(path, {"out": "result"})
    assert [node.op_type for node in model.graph.node] == ["Conv", "Transpose"]
    shown = rng.normal(size=(1, 2, 6, 8)).astype(np.float32)
    [result] = onnxruntime.InferenceSession(model.SerializeToString()).run(["result"], {"shown": shown})
    padded = np.pad(shown, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 3, 1)
    expected = np.empty((1, 3, 4, 4), np.float32)
    for row in range(3):
        for column in range(4):
            window = padded[0, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected[0, row, column] = np.tensordot(window, kernel, 3) + bias.reshape(-1)
    assert result.shape == (1, 3, 4, 4)
    assert np.allclose(result, expected, atol=1e-4)


def test_an_operation_that_is_not_known_is_named_with_its_node(tmp_path: Path) -> None:
    path = graph(tmp_path, {"name": "head/softmax", "op": "Softmax", "input": ["shown"]})
    with pytest.raises(ConversionError, match="head/softmax: no rule for the operation Softmax"):
        convert(path, {})


def test_weights_that_are_too_long_or_too_short_are_refused(tmp_path: Path) -> None:
    path = graph(tmp_path, weights={"two": np.zeros(2, np.float32)})
    (tmp_path / "graph.bin").write_bytes(bytes(6))
    with pytest.raises(ConversionError, match=r"graph\.bin.*6 bytes, where the manifest has 4"):
        convert(path, {})
