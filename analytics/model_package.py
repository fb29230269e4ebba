"""A model as an operator brings it: a folder with `model.onnx` and `model.yaml`, checked before it is used.

    package = load(Path("models/nanodet"))           # ModelFault: which file, what was expected
    package.digest, package.description.classes, package.description.threshold("person")

The digest is of the bytes that run: they are read once, hashed, and handed to onnxruntime from memory. Only
ONNX is taken, never pickles. Whether inputs and outputs fit the decoder is checked by running the model once
(`analytics/detector.py`). Thresholds without a class of their own follow `default`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

MODELS = Path(__file__).resolve().parent.parent / "build" / "models"
"""Where `make setup` leaves the models that it converts."""
DEFAULT_MODEL = MODELS / "nanodet"
"""What looks at cameras unless the settings name another; a packaged installation brings it along."""
MODEL_FILE, DESCRIPTION_FILE = "model.onnx", "model.yaml"
LARGEST_MODEL, LARGEST_DESCRIPTION = 512 << 20, 1 << 20
"""Bytes; what is larger is no model for this."""

Share = Annotated[float, Meta(ge=0, le=1)]
Side = Annotated[int, Meta(ge=32, le=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class ModelFault(Exception):
    """The model cannot be used; the text names the file and what was expected of it."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common manners of the parts of a description."""


class ModelInput(_Section, frozen=True):
    """What the model wants to be shown: a float32 tensor of 1 x 3 x height x width.

    A pixel goes in as `(value - mean) / std`, a channel each in the order of `colours`. With `letterbox` the
    picture keeps its proportions and is centred on a ground of the value `fill`; otherwise it is stretched.
    `multiple` says that the model takes any size of this multiple: then the ground is cut down to it, so that
    a wide picture costs no more than its own pixels.
    """

    width: Side
    height: Side
    colours: Literal["bgr", "rgb"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    letterbox: bool = True
    fill: Annotated[int, Meta(ge=0, le=255)] = 0
    multiple: Annotated[int, Meta(ge=0, le=256)] = 0


class ModelDescription(_Section, frozen=True):
    """`model.yaml`. `violations` says which violation a class stands for where it stands for one by itself,
    `overlap` (IoU) from where two boxes of a class are one object's."""

    name: Name
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    licence: Annotated[str, Meta(min_length=1, max_length=200)]
    decoder: str
    input: ModelInput
    classes: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)]
    thresholds: dict[str, Share]
    source: str = ""
    overlap: Share = 0.6
    violations: dict[str, str] = {}

    def threshold(self, label: str) -> float:
        """The score from which a detection of this class counts."""
        return self.thresholds.get(label, self.thresholds["default"])


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A description and the bytes that it is of."""

    folder: Path
    description: ModelDescription
    model: bytes

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def digest(self) -> str:
        """SHA-256 of the model, in hexadecimal: what evidence names."""
        return self.description.sha256

    @property
    def model_path(self) -> Path:
        return self.folder / MODEL_FILE


def load(folder: Path) -> ModelPackage:
    """Reads and checks the package in `folder`. It reads files: not on the event loop. Raises ModelFault."""
    description = _describe(folder / DESCRIPTION_FILE)
    path = folder / MODEL_FILE
    model = _read(path, LARGEST_MODEL)
    digest = hashlib.sha256(model).hexdigest()
    if digest != description.sha256:
        raise ModelFault(
            f"{path}: its SHA-256 is {digest}, {DESCRIPTION_FILE} expects {description.sha256}: "
            "the file is damaged or another one"
        )
    return ModelPackage(folder, description, model)


def _describe(path: Path) -> ModelDescription:
    try:
        given = yaml.safe_load(_read(path, LARGEST_DESCRIPTION))
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        # PyYAML lets through what its converters raise: no day of that month, 5000 digits, 1000 brackets
        raise ModelFault(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        description = msgspec.convert(given, ModelDescription)
    except msgspec.ValidationError as error:
        raise ModelFault(f"{path}: {error}") from None
    for fault in _faults(description):
        raise ModelFault(f"{path}: {fault}")
    return description


def _faults(description: ModelDescription) -> list[str]:
    faults = []
    if len(set(description.classes)) != len(description.classes):
        faults.append("a name stands twice in `classes`")
    if "default" not in description.thresholds:
        faults.append("`thresholds` needs a `default`")
    known = {*description.classes, "default"}
    faults += [
        f"`thresholds` names {label!r}, which is no class"
        for label in description.thresholds
        if label not in known
    ]
    faults += [
        f"`violations` names {label!r}, which is no class"
        for label in description.violations
        if label not in known
    ]
    if not all(description.input.std):
        faults.append("`input.std` must not be 0")
    size = description.input
    if size.multiple and (size.width % size.multiple or size.height % size.multiple):
        faults.append(f"`input` is {size.width}x{size.height}, which is no multiple of {size.multiple}")
    return faults


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ModelFault(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise ModelFault(f"{path}: larger than {limit} bytes, which no model for this is")
    return data
