"""A stranger's model is tried out where it can harm nobody."""

from hashlib import sha256
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from analytics.model_check import check
from analytics.model_package import DEFAULT_MODEL, ModelFault, ModelPackage
from tests.analytics.test_model_package import FITTING, constant_model, folder


async def test_a_good_model_is_named_with_its_digest_and_what_it_costs(nanodet: ModelPackage) -> None:
    checked = await check(DEFAULT_MODEL)
    assert (checked.name, checked.digest, checked.decoder) == ("nanodet", nanodet.digest, "nanodet")
    assert checked.classes == nanodet.description.classes
    assert 1 < checked.milliseconds < 5000


async def test_a_fault_comes_back_in_the_words_of_who_found_it(tmp_path: Path) -> None:
    path = folder(tmp_path, constant_model(*FITTING, size=(96, 96)))
    with pytest.raises(
        ModelFault, match=r"its input is 1x3x96x96, model\.yaml expects one of float32 1x3x64x64"
    ):
        await check(path)
    (path / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelFault, match=f"SHA-256 is {sha256(b'another').hexdigest()}"):
        await check(path)


async def test_a_model_that_never_ends_is_ended(tmp_path: Path) -> None:
    path = folder(tmp_path, _loop(2**62))
    with pytest.raises(ModelFault, match=r"it could not be loaded and run in 4 s|was ended by SIGXCPU"):
        await check(path, seconds=4)


async def test_a_model_that_swells_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, _swelling())
    with pytest.raises(ModelFault, match=r"fails on a picture of 64x64|needs too much"):
        await check(path)


def _loop(rounds: int) -> bytes:
    """Turns a loop so many times before it gives anything."""
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Identity", ["kept"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    count = helper.make_tensor("count", TensorProto.INT64, [], [rounds])
    return _model([helper.make_node("Loop", ["count", "true", "shown"], ["out"], body=body)], [true, count])


def _swelling() -> bytes:
    """Wants 16 GB."""
    times = helper.make_tensor("times", TensorProto.INT64, [4], [1, 1, 1000, 350])
    return _model([helper.make_node("Tile", ["shown", "times"], ["out"])], [times])


def _model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> bytes:
    shown = helper.make_tensor_value_info("shown", TensorProto.FLOAT, [1, 3, 64, 64])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "strange", [shown], [out], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data
