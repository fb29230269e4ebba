"""A model folder is what it says, or the refusal names the file and what was expected."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from analytics.detector import Detector
from analytics.model_package import ModelFault, ModelPackage, load

GIVEN: dict[str, Any] = {
    "name": "two classes",
    "licence": "Apache-2.0",
    "decoder": "nanodet",
    "input": {"width": 64, "height": 64, "colours": "bgr"},
    "classes": ["person", "helmet"],
    "thresholds": {"default": 0.5, "helmet": 0.3},
    "violations": {"helmet": "helmet_off"},
}


def constant_model(*outputs: tuple[int, ...], size: tuple[int, int] = (64, 64)) -> bytes:
    """An ONNX model that gives zeros of these shapes for any picture of `size`."""
    shown = helper.make_tensor_value_info("shown", TensorProto.FLOAT, [1, 3, *size])
    nodes = [
        helper.make_node(
            "Constant",
            [],
            [f"out{n}"],
            value=helper.make_tensor(f"v{n}", TensorProto.FLOAT, shape, b"\0" * 4 * _count(shape), raw=True),
        )
        for n, shape in enumerate(outputs)
    ]
    results = [helper.make_tensor_value_info(f"out{n}", TensorProto.FLOAT, s) for n, s in enumerate(outputs)]
    graph = helper.make_graph(nodes, "constant", [shown], results)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


FITTING = ((1, 64, 2), (1, 64, 44), (1, 16, 2), (1, 16, 44), (1, 4, 2), (1, 4, 44))


def folder(path: Path, model: bytes, change: Callable[[dict[str, Any]], object] = lambda given: None) -> Path:
    """A package folder, its description changed by `change` after its digest was put in."""
    given = {**GIVEN, "input": dict(GIVEN["input"]), "sha256": sha256(model).hexdigest()}
    given["thresholds"] = dict(GIVEN["thresholds"])
    change(given)
    (path / "model.onnx").write_bytes(model)
    (path / "model.yaml").write_text(yaml.safe_dump(given))
    return path


def test_a_package_says_what_it_is_and_its_digest(tmp_path: Path) -> None:
    model = constant_model(*FITTING)
    package = load(folder(tmp_path, model))
    assert (package.name, package.digest) == ("two classes", sha256(model).hexdigest())
    assert package.description.threshold("person") == 0.5
    assert package.description.threshold("helmet") == 0.3
    assert package.description.violations == {"helmet": "helmet_off"}
    assert Detector(package).first_seconds > 0


def test_the_packaged_detector_knows_persons_and_their_licence(nanodet: ModelPackage) -> None:
    assert nanodet.description.classes[0] == "person"
    assert len(nanodet.description.classes) == 80
    assert nanodet.description.licence == "Apache-2.0"


def test_another_file_than_the_description_is_of_is_refused_by_its_digest(tmp_path: Path) -> None:
    model = constant_model(*FITTING)
    path = folder(tmp_path, model)
    other = model[:-1] + bytes([model[-1] ^ 1])
    (path / "model.onnx").write_bytes(other)
    with pytest.raises(ModelFault) as refusal:
        load(path)
    text = str(refusal.value)
    assert str(path / "model.onnx") in text
    assert sha256(other).hexdigest() in text
    assert sha256(model).hexdigest() in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda given: given.pop("licence"), "missing required field `licence`"),
        (lambda given: given["input"].pop("width"), "missing required field `width`"),
        (lambda given: given.update(anchors=[1]), "unknown field `anchors`"),
        (lambda given: given.update(sha256="abc"), "sha256"),
        (lambda given: given["input"].update(colours="grey"), "$.input.colours"),
        (lambda given: given["thresholds"].pop("default"), "`thresholds` needs a `default`"),
        (lambda given: given["thresholds"].update(vest=0.5), "'vest', which is no class"),
        (lambda given: given.update(violations={"vest": "x"}), "'vest', which is no class"),
        (lambda given: given["thresholds"].update(person=1.5), "$.thresholds"),
        (lambda given: given.update(classes=["person", "person"]), "twice"),
        (lambda given: given["input"].update(std=[1.0, 0.0, 1.0]), "`input.std` must not be 0"),
        (lambda given: given["input"].update(width=100, multiple=32), "100x64, which is no multiple of 32"),
    ],
)
def test_a_description_that_is_wrong_is_named_with_its_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(ModelFault) as refusal:
        load(folder(tmp_path, constant_model(*FITTING), change))
    assert str(refusal.value).startswith(f"{tmp_path / 'model.yaml'}: ")
    assert said in str(refusal.value)


def test_files_that_are_not_there_or_not_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"model\.yaml: cannot be read: No such file"):
        load(tmp_path)
    path = folder(tmp_path, constant_model(*FITTING))
    (path / "model.onnx").unlink()
    with pytest.raises(ModelFault, match=r"model\.onnx: cannot be read: No such file"):
        load(path)
    for text in ("a: [", "[" * 10_000, "a: 2024-13-45", "a: " + "1" * 5000, "a: !!int x", "a: !!timestamp x"):
        (path / "model.yaml").write_text(text)
        with pytest.raises(ModelFault, match=r"model\.yaml: not YAML"):
            load(path)


def test_a_model_for_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path = folder(tmp_path, constant_model(*FITTING, size=(96, 128)))
    with pytest.raises(ModelFault) as refusal:
        Detector(load(path))
    assert "model.onnx: its input is 1x3x96x128" in str(refusal.value)
    assert "expects one of float32 1x3x64x64" in str(refusal.value)


def test_outputs_of_another_shape_are_refused_with_what_the_decoder_expects(tmp_path: Path) -> None:
    """A NanoDet of three classes, told to be one of two."""
    outputs = tuple((one, cells, 3 if last == 2 else last) for one, cells, last in FITTING)
    with pytest.raises(ModelFault) as refusal:
        Detector(load(folder(tmp_path, constant_model(*outputs))))
    assert "it gives 1x64x3, 1x64x44" in str(refusal.value)
    assert "a nanodet of 2 classes gives six outputs 1x64x2, 1x64x44" in str(refusal.value)


def test_what_is_no_onnx_is_refused_even_with_the_right_digest(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match=r"model\.onnx: no model that onnxruntime takes"):
        Detector(load(folder(tmp_path, b"\x80\x04cos\nsystem\n(S'true'\ntR.")))


def test_an_unknown_decoder_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = folder(tmp_path, constant_model(*FITTING), lambda given: given.update(decoder="yolov9000"))
    with pytest.raises(
        ModelFault, match=r"model\.yaml: nobody here knows the decoder 'yolov9000'; known: nanodet"
    ):
        Detector(load(path))
