"""Operators that onnxruntime adds: their shapes are known, so they and all after them are divided."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flexpie.core.rules import bind, rule_for
from flexpie.core.rules.base import GuardedRule
from flexpie.core.scheme import IN_H, OUT_C, Scheme
from tests.random_plans import forced_plan
from tests.splitting import imported, run_split, run_unsplit

Array = npt.NDArray[Any]


def constants(**arrays: Array) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def model_of(
    node: onnx.NodeProto, shape: tuple[int, ...], weights: list[onnx.TensorProto], opset: int
) -> onnx.ModelProto:
    """x → quantised twice (x1, x2) → the node, which reads any of the three → y."""
    quantised = [helper.make_node("QuantizeLinear", ["x", scale, "zero"], [name], name=name)
                 for name, scale in (("x1", "s1"), ("x2", "s2"))]  # fmt: skip
    parameters = constants(s1=np.float32(0.02), s2=np.float32(0.03), zero=np.uint8(120), flag=np.ones((8, 1), bool))
    graph = helper.make_graph(
        [*quantised, node],
        "contrib",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [*parameters, *weights],
    )
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


IMAGE = (1, 6, 8, 8)
A, B, OUT = ["x1", "s1", "zero"], ["x2", "s2", "zero"], ["s1", "zero"]
NODES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "QLinearAdd": ([*A, *B, *OUT], {}),
    "QLinearMul": ([*A, *B, *OUT], {}),
    "QLinearWhere": (["flag", *A, *B, *OUT], {}),
    "QLinearConcat": ([*OUT, *A, *B], {"axis": 1}),
    "QLinearSigmoid": ([*A, *OUT], {}),
    "QLinearLeakyRelu": ([*A, *OUT], {}),
    "QLinearSoftmax": ([*A, *OUT], {"axis": 1, "opset": 13}),
    "QLinearAveragePool": ([*A, *OUT], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "QLinearGlobalAveragePool": ([*A, *OUT], {"channels_last": 0}),
    "QuantizeLinear": (["x", *OUT], {}),
    "DequantizeLinear": (A, {}),
    "Gelu": (["x"], {}),
    "QuickGelu": (["x"], {}),
    "FastGelu": (["x"], {}),
    "BiasGelu": (["x", "bias"], {}),
}


def assert_splits(model: onnx.ModelProto, scheme: Scheme) -> None:
    unsplit = imported(model)
    operator = next(op for op in unsplit.graph.operators() if "y" in op.outputs)
    bound, rule = bind(unsplit.graph, operator), rule_for(operator)
    assert not bound.output().opaque
    assert isinstance(rule, GuardedRule)
    assert rule.rule.supports(bound)
    x = unsplit.graph.tensors["x"]
    feeds = {"x": np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)}
    expected = run_unsplit(model, feeds)
    assert expected is not None
    assert (expected["y"].shape, expected["y"].dtype.name) == (bound.output().shape, bound.output().dtype.value)
    found = run_split(unsplit, forced_plan(unsplit.graph, 3, scheme), feeds)[0]
    if expected["y"].dtype.kind == "f":
        np.testing.assert_allclose(found["y"], expected["y"], atol=1e-6)
    else:
        np.testing.assert_array_equal(found["y"], expected["y"])


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("op_type", NODES)
def test_operators_of_the_quantiser_are_divided(op_type: str, opset: int) -> None:
    inputs, attributes = NODES[op_type]
    node = helper.make_node(op_type, inputs, ["y"], name="node", domain="com.microsoft", **attributes)
    model = model_of(node, IMAGE, constants(bias=np.ones(8, np.float32)), opset)
    for scheme in (IN_H, OUT_C):
        assert_splits(model, scheme)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_quantised_gemm_is_divided(real: bool, flip: bool) -> None:
    shape = (9, 7) if flip else (7, 9)
    weight = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    inputs = [*A, "w", "sw", "zw", "c", *([] if real else OUT)]
    node = helper.make_node("QGemm", inputs, ["y"], name="node", domain="com.microsoft", transB=int(flip))
    weights = constants(w=weight, sw=np.float32(0.01), zw=np.uint8(128), c=np.arange(9, dtype=np.int32))
    for scheme in (IN_H, OUT_C):
        assert_splits(model_of(node, (5, 7), weights, 13), scheme)


def test_what_is_not_known_stays_opaque() -> None:
    node = helper.make_node("QLinearGlobalAveragePool", [*A, *OUT], ["y"], domain="com.microsoft", channels_last=1)
    unsplit = imported(model_of(node, IMAGE, [], 13))
    assert unsplit.graph.tensors["y"].opaque
