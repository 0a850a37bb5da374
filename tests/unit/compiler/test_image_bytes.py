"""Models that take images as bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import flexpie_models
from flexpie.compiler.image_bytes import take_image_bytes, write_with_image_bytes
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER
from flexpie.pipeline import compile_plan, plan_model
from tests.splitting import Arrays, imported, in_process, run_unsplit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def convolution(kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A convolution of three channels, and the mean of the image beside it."""
    weight = np.random.default_rng(3).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3]),
        ],
        "image",
        [helper.make_tensor_value_info("x", kind, [1, 3, 16, 16])],
        [
            helper.make_tensor_value_info("y", kind, [1, 4, 16, 16]),
            helper.make_tensor_value_info("m", kind, [1, 3, 1, 1]),
        ],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def image(size: int = 16) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(5).integers(0, 256, (1, 3, size, size), dtype=np.uint8)


def normalised(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Arrays:
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return {"x": ((pixels / 255 - mean) / std).astype(np.float32)}


def refused(kind: ErrorCode, model: onnx.ModelProto, *arguments: object) -> str:
    with pytest.raises(FlexPieError) as raised:
        take_image_bytes(model, *arguments)  # type: ignore[arg-type]
    assert raised.value.code is kind
    return raised.value.message


def test_it_answers_what_the_model_answers_for_floats() -> None:
    model = convolution()
    expected = run_unsplit(model, normalised(image()))
    actual = run_unsplit(take_image_bytes(model, MEAN, STD), {"x": image()})
    assert expected is not None
    assert actual is not None
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-5)


def test_without_mean_and_std_bytes_become_0_to_1() -> None:
    actual = run_unsplit(take_image_bytes(convolution()), {"x": np.full((1, 3, 16, 16), 255, np.uint8)})
    assert actual is not None
    np.testing.assert_allclose(actual["m"], 1, rtol=1e-6)


def test_a_divided_model_is_sent_a_quarter_of_the_bytes_and_answers_the_same() -> None:
    link = Link(125e6, 50e-6)
    devices = tuple(Device(f"d{index}", f"host{index}:1", speed=0.2) for index in range(2))
    cluster = Cluster(devices, link)
    description = flexpie_models.describe("mobilenet_v1").image
    assert description is not None
    plain = flexpie_models.build("mobilenet_v1", image_size=64)
    name = plain.graph.input[0].name
    pixels = image(64)
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (description.mean, description.std))
    sent, answers = [], []
    for model, feed in (
        (plain, ((pixels / 255 - mean) / std).astype(np.float32)),
        (take_image_bytes(plain, description.mean, description.std), pixels),
    ):
        found = imported(model)
        devices_here = in_process(compile_plan(found, plan_model(found, cluster, "InH").plan))
        answers.append(next(iter(devices_here.infer({name: feed}).values())))
        sent.append(sum(nbytes for (source, _), nbytes in devices_here.sent_bytes.items() if source == MASTER))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-4)
    assert sent[1] <= 0.3 * sent[0]


def test_inputs_that_hold_no_floats_are_refused() -> None:
    assert "does not hold float32" in refused(ErrorCode.INVALID_ARGUMENT, convolution(TensorProto.DOUBLE))


def test_values_must_fit_the_channels() -> None:
    assert "3 channels, but 2 values" in refused(ErrorCode.INVALID_ARGUMENT, convolution(), (0.5, 0.5))
    assert "positive" in refused(ErrorCode.INVALID_ARGUMENT, convolution(), (), (0.0,))


def test_an_unknown_input_is_refused() -> None:
    assert "no input 'z'" in refused(ErrorCode.INVALID_ARGUMENT, convolution(), (), (), "z")


def test_a_file_is_written_that_takes_bytes(tmp_path: Path) -> None:
    onnx.save(convolution(), str(tmp_path / "m.onnx"))
    write_with_image_bytes(tmp_path / "m.onnx", tmp_path / "bytes.onnx", (0.5,), (0.5,))
    written = onnx.load(str(tmp_path / "bytes.onnx"))
    onnx.checker.check_model(written, full_check=True)
    assert written.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(FlexPieError) as raised:
        write_with_image_bytes(tmp_path / "m.onnx", tmp_path / "bytes.onnx")
    assert raised.value.code is ErrorCode.INVALID_MODEL
    assert not (tmp_path / "bytes.onnx").exists()
