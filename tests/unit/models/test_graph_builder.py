"""The writer of ONNX graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flexpie_models.graph_builder import GraphBuilder, Value
from tests.unit.models.sessions import run, shapes


def test_what_is_appended_is_in_the_model() -> None:
    graph = GraphBuilder("scaled")
    x = graph.input("x", np.float32, ["batch", 3])
    factors = graph.weight("factors", np.array([1.0, 2.0, 3.0], np.float32))
    product = graph.node("Mul", x, factors, name="/Mul")
    shifted = graph.node("Add", product, graph.constant("/one", np.array(1.0, np.float32)), name="/Add", output="y")
    graph.output(shifted, np.float32, ["batch", 3])
    model = graph.model()
    onnx.checker.check_model(model, full_check=True)
    assert product == "/Mul_output_0"
    assert shapes(model.graph.output) == {"y": ["batch", 3]}
    [result] = run(model, {"x": np.array([[1.0, 1.0, 1.0]], np.float32)})
    np.testing.assert_array_equal(result, [[2.0, 3.0, 4.0]])


def test_weights_keep_their_bytes_whatever_their_layout() -> None:
    graph = GraphBuilder("weights")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph.weight("plain", array)
    graph.weight("transposed", array.T)
    graph.weight("big_endian", array.astype(">f4"))
    graph.weight("integers", np.array([[-1]], np.int64))
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in graph.model().graph.initializer]
    for actual, expected in zip(stored, (array, array.T, array, np.array([[-1]])), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert stored[3].dtype == np.int64


def test_mistakes_are_found_where_they_are_made() -> None:
    graph = GraphBuilder("mistakes")
    x = graph.input("x", np.float32, [1])
    y = graph.node("Relu", x, name="/Relu")
    with pytest.raises(ValueError, match="node name '/Relu' is used twice"):
        graph.node("Relu", x, name="/Relu")
    with pytest.raises(ValueError, match="value name 'x' is used twice"):
        graph.weight("x", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="node '/Add' reads 'z', which nothing before it produces"):
        graph.node("Add", y, Value("z"), name="/Add")
    with pytest.raises(ValueError, match="graph output 'z' is not produced"):
        graph.output(Value("z"), np.float32, [1])
