"""Profiles of one model hold their weights once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from flexpie import pipeline
from flexpie.compiler import loading

RANDOM = np.random.default_rng(0)


def _model(path: Path, **options: object) -> Path:
    """Conv and BatchNormalization, which are folded together; a weight of eight bits, strings, and an open batch."""
    weights = [
        numpy_helper.from_array(RANDOM.standard_normal((8, 3, 3, 3)).astype(np.float32), "w"),
        *(numpy_helper.from_array(RANDOM.random(8).astype(np.float32) + 1, name) for name in ("s", "b", "m", "v")),
        numpy_helper.from_array(RANDOM.standard_normal((8, 4)).astype(np.float32), "d"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("GlobalAveragePool", ["n"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path), **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("external", [False, True])
def test_equal_weights_are_one(tmp_path: Path, external: bool) -> None:
    options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0} if external else {}
    path = _model(tmp_path / "m.onnx", **options)
    first = pipeline.import_file(path, {"x": (1, 3, 8, 8)})
    second = pipeline.import_file(path, {"x": (4, 3, 8, 8)}, twin=first)
    assert second.graph.tensors["y"].shape == (4, 4)
    assert second.weights.keys() == first.weights.keys()
    assert all(second.weights[name] is first.weights[name] for name in first.weights)


def test_weights_that_differ_stay_apart(tmp_path: Path) -> None:
    first = pipeline.import_file(_model(tmp_path / "m.onnx"), {"x": (1, 3, 8, 8)})
    second = pipeline.import_file(_model(tmp_path / "n.onnx"), {"x": (1, 3, 8, 8)})
    expected = {name: tensor.numpy().copy() for name, tensor in second.weights.items()}
    shared = pipeline.import_file(tmp_path / "n.onnx", {"x": (1, 3, 8, 8)}, twin=first)
    for name, tensor in shared.weights.items():
        assert tensor is not first.weights[name]
        np.testing.assert_array_equal(tensor.numpy(), expected[name])


def test_only_the_first_profile_keeps_the_files_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _model(tmp_path / "m.onnx")
    first = pipeline.import_file(path, {"x": (1, 3, 8, 8)})
    models: list[weakref.ref[ir.Model]] = []
    load = loading._to_ir

    def remember(path: Path, proto: onnx.ModelProto) -> ir.Model:
        model = load(path, proto)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(loading, "_to_ir", remember)
    second = pipeline.import_file(path, {"x": (4, 3, 8, 8)}, twin=first)
    gc.collect()
    assert models[0]() is None
    assert not any(isinstance(tensor, ir.TensorProtoTensor) and tensor is not first.weights.get(name)
                   for name, tensor in second.weights.items())  # fmt: skip
