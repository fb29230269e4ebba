"""A TensorFlow.js graph model to ONNX, without TensorFlow.

    model = convert(Path("nanodet.json"), outputs={"Identity": "scores_8", ...})

Such a graph computes on NHWC tensors with transposes between; ONNX is NCHW throughout. So every value here
remembers where its stored axes are, and transposes cost no node until somebody needs the axes in place.
Height and width of the input become free: the graph is convolutional, only its reshapes name a size.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 9
NHWC = (0, 2, 3, 1)
"""The stored NCHW axes in the order in which NHWC asks for them."""

Array = NDArray[Any]
Node = dict[str, Any]


class ConversionError(Exception):
    """The graph has something that this converter does not know; the text names the node."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the ONNX graph: stored under `name` with `shape`; axis `i`, as the source graph sees it, is
    the stored axis `axes[i]`. `pads` (stored axes, begin and end) wait for the convolution that follows."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | None = None

    @property
    def in_place(self) -> bool:
        return self.axes == tuple(range(len(self.axes))) and self.pads is None


def convert(path: Path, outputs: Mapping[str, str]) -> onnx.ModelProto:
    """The model in `path` (its weights lie beside it) with its outputs renamed. Raises ConversionError."""
    document = json.loads(path.read_text())
    weights = read_weights(document["weightsManifest"], path.parent)
    graph = _Graph(weights, outputs)
    for node in document["modelTopology"]["node"]:
        graph.add(node)
    return graph.model(path.stem)


def read_weights(manifest: list[dict[str, Any]], folder: Path) -> dict[str, Array]:
    """Constants by name; those that were shrunk to half precision come back as float32."""
    weights: dict[str, Array] = {}
    for group in manifest:
        data = b"".join((folder / name).read_bytes() for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
            count = math.prod(entry["shape"])
            values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
            weights[entry["name"]] = values.astype(np.dtype(entry["dtype"]))
            offset += count * stored.itemsize
        if offset != len(data):
            raise ConversionError(f"{group['paths']}: {len(data)} bytes, where the manifest has {offset}")
    return weights


class _Graph:
    def __init__(self, weights: Mapping[str, Array], outputs: Mapping[str, str]) -> None:
        self._weights = weights
        self._outputs = outputs
        self._constants: dict[str, Array] = {}
        self._values: dict[str, Value] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._results: list[onnx.ValueInfoProto] = []
        self._rules: dict[str, Callable[[Node], None]] = {
            "Const": self._const,
            "Placeholder": self._placeholder,
            "SparseToDense": self._sparse_to_dense,
            "Transpose": self._transpose,
            "Pad": self._pad,
            "PadV2": self._pad,
            "Conv2D": self._conv,
            "MaxPool": self._max_pool,
            "Add": self._add,
            "AddV2": self._add,
            "LeakyRelu": self._elementwise,
            "Sigmoid": self._elementwise,
            "ConcatV2": self._concat,
            "SplitV": self._split,
            "ResizeBilinear": self._resize,
            "Reshape": self._reshape,
            "Identity": self._identity,
        }

    def add(self, node: Node) -> None:
        rule = self._rules.get(node["op"])
        if rule is None:
            raise ConversionError(f"{node['name']}: no rule for the operation {node['op']}")
        rule(node)

    def model(self, name: str) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, name, self._inputs, self._results, self._initialisers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    # What rules read and write

    def _input(self, node: Node, index: int, *, padded: bool = False) -> Value:
        value = self._values[node["input"][index]]
        if value.pads is not None and not padded:
            raise ConversionError(f"{node['name']}: padding is known before convolutions and pooling only")
        return value

    def _constant(self, node: Node, index: int) -> Array:
        name = node["input"][index]
        if name not in self._constants:
            raise ConversionError(f"{node['name']}: input {index} must be a constant")
        return self._constants[name]

    def _emit(
        self,
        node: Node,
        kind: str,
        inputs: list[str],
        shape: tuple[int, ...],
        axes: tuple[int, ...],
        **more: Any,
    ) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [node["name"]], name=node["name"], **more))
        self._values[node["name"]] = Value(node["name"], shape, axes)

    def _store(self, name: str, values: Array) -> str:
        self._initialisers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    # One rule an operation

    def _const(self, node: Node) -> None:
        self._constants[node["name"]] = self._weights[node["name"]]

    def _placeholder(self, node: Node) -> None:
        shape = tuple(int(dim["size"]) for dim in node["attr"]["shape"]["shape"]["dim"])
        free: list[int | str | None] = [shape[0], shape[1], "height", "width"]
        self._inputs.append(helper.make_tensor_value_info(node["name"], TensorProto.FLOAT, free))
        self._values[node["name"]] = Value(node["name"], shape, (0, 1, 2, 3))

    def _sparse_to_dense(self, node: Node) -> None:
        at, shape, values, default = (self._constant(node, index) for index in range(4))
        dense = np.full(shape.reshape(-1), default.reshape(()))
        for place, value in zip(at.reshape(-1, dense.ndim), np.broadcast_to(values, len(at)), strict=True):
            dense[tuple(place)] = value
        self._constants[node["name"]] = dense

    def _transpose(self, node: Node) -> None:
        value = self._input(node, 0, padded=True)
        order = self._constant(node, 1)
        self._values[node["name"]] = replace(value, axes=tuple(value.axes[axis] for axis in order))

    def _pad(self, node: Node) -> None:
        value = self._input(node, 0)
        pads = [(0, 0)] * len(value.axes)
        for axis, (before, after) in zip(value.axes, self._constant(node, 1), strict=True):
            pads[axis] = (int(before), int(after))
        if node["op"] == "PadV2" and self._constant(node, 2).max() > np.finfo(np.float32).min:
            raise ConversionError(f"{node['name']}: padding by a value is known before pooling only")
        self._values[node["name"]] = replace(value, pads=tuple(pads))

    def _window(
        self, node: Node, value: Value, kernel: tuple[int, int]
    ) -> tuple[dict[str, Any], tuple[int, int]]:
        """Attributes of a sliding window over an NHWC value, and the height and width that come of it."""
        if base64.b64decode(node["attr"]["padding"]["s"]) != b"VALID" or value.axes != NHWC:
            raise ConversionError(f"{node['name']}: only VALID windows over NHWC are known")
        strides = tuple(int(step) for step in node["attr"]["strides"]["list"]["i"])[1:3]
        (top, bottom), (left, right) = (value.pads or ((0, 0),) * 4)[2:]
        height = (value.shape[2] + top + bottom - kernel[0]) // strides[0] + 1
        width = (value.shape[3] + left + right - kernel[1]) // strides[1] + 1
        attributes = {"kernel_shape": kernel, "strides": strides, "pads": [top, left, bottom, right]}
        return attributes, (height, width)

    def _conv(self, node: Node) -> None:
        value = self._input(node, 0, padded=True)
        weights = self._constant(node, 1).transpose(3, 2, 0, 1)
        attributes, size = self._window(node, value, weights.shape[2:])
        if set(node["attr"]["dilations"]["list"]["i"]) != {"1"}:
            raise ConversionError(f"{node['name']}: dilated convolutions are not known")
        kernel = self._store(f"{node['name']}/kernel", weights)
        shape = (value.shape[0], weights.shape[0], *size)
        self._emit(node, "Conv", [value.name, kernel], shape, NHWC, **attributes)

    def _max_pool(self, node: Node) -> None:
        value = self._input(node, 0, padded=True)
        kernel = tuple(int(step) for step in node["attr"]["ksize"]["list"]["i"])[1:3]
        attributes, size = self._window(node, value, (kernel[0], kernel[1]))
        self._emit(node, "MaxPool", [value.name], (*value.shape[:2], *size), NHWC, **attributes)

    def _add(self, node: Node) -> None:
        left, right = node["input"]
        if left in self._constants and right in self._constants:
            self._constants[node["name"]] = self._constants[left] + self._constants[right]
        elif right in self._constants:
            self._bias(node)
        else:
            one, other = self._input(node, 0), self._input(node, 1)
            if (one.axes, one.shape) != (other.axes, other.shape):
                raise ConversionError(f"{node['name']}: adds tensors that lie differently")
            self._emit(node, "Add", [one.name, other.name], one.shape, one.axes)

    def _bias(self, node: Node) -> None:
        value = self._input(node, 0)
        made = next(made for made in self._nodes if value.name in made.output)
        bias = self._constant(node, 1)
        if made.op_type != "Conv" or len(made.input) != 2 or bias.size != value.shape[1]:
            raise ConversionError(f"{node['name']}: a constant is added to what is no convolution")
        made.input.append(self._store(f"{value.name}/bias", bias.reshape(-1)))
        self._values[node["name"]] = value

    def _elementwise(self, node: Node) -> None:
        value = self._input(node, 0)
        more = {"alpha": float(node["attr"]["alpha"]["f"])} if node["op"] == "LeakyRelu" else {}
        self._emit(node, node["op"], [value.name], value.shape, value.axes, **more)

    def _concat(self, node: Node) -> None:
        parts = [self._input(node, index) for index in range(len(node["input"]) - 1)]
        axes = parts[0].axes
        if any(part.axes != axes for part in parts):
            raise ConversionError(f"{node['name']}: joins tensors that lie differently")
        axis = axes[int(self._constant(node, len(parts)).item())]
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        self._emit(node, "Concat", [part.name for part in parts], tuple(shape), axes, axis=axis)

    def _split(self, node: Node) -> None:
        value, sizes = self._input(node, 0), self._constant(node, 1).astype(np.int64)
        axis = value.axes[int(self._constant(node, 2).item())]
        names = [node["name"], *(f"{node['name']}:{index}" for index in range(1, len(sizes)))]
        stored = self._store(f"{node['name']}/sizes", sizes)
        self._nodes.append(
            helper.make_node("Split", [value.name, stored], names, name=node["name"], axis=axis)
        )
        for name, size in zip(names, sizes, strict=True):
            shape = (*value.shape[:axis], int(size), *value.shape[axis + 1 :])
            self._values[name] = Value(name, shape, value.axes)

    def _resize(self, node: Node) -> None:
        value, (height, width) = self._input(node, 0), self._constant(node, 1)
        if value.axes != NHWC or not node["attr"]["half_pixel_centers"]["b"]:
            raise ConversionError(f"{node['name']}: only half-pixel resizing of NHWC is known")
        shape = (*value.shape[:2], int(height), int(width))
        scales = np.array([new / old for new, old in zip(shape, value.shape, strict=True)], np.float32)
        stored = self._store(f"{node['name']}/scales", scales)
        more = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self._emit(node, "Resize", [value.name, "", stored], shape, NHWC, **more)

    def _reshape(self, node: Node) -> None:
        value, wanted = self._input(node, 0), self._constant(node, 1).astype(np.int64)
        last, odd = divmod(math.prod(value.shape), math.prod(wanted[:-1]))
        if not value.in_place or odd or wanted[-1] not in (-1, last):
            raise ConversionError(f"{node['name']}: cannot reshape {value.shape} to {wanted.tolist()}")
        stored = self._store(f"{node['name']}/shape", np.array([*wanted[:-1], -1], np.int64))
        shape = (*map(int, wanted[:-1]), int(last))
        self._emit(node, "Reshape", [value.name, stored], shape, tuple(range(len(shape))))

    def _identity(self, node: Node) -> None:
        value, name = self._input(node, 0), self._outputs[node["name"]]
        self._nodes.append(helper.make_node("Transpose", [value.name], [name], name=name, perm=value.axes))
        shape = [value.shape[axis] for axis in value.axes]
        free: list[int | str | None] = [shape[0], f"cells_{name}", *shape[2:]]
        self._results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, free))
