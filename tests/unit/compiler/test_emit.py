"""Changes of nodes that a subgraph needs: inputs that the model's node lacks, outputs that are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flexpie.core.scheme import BATCH, GRID_2D, IN_H, IN_W, OUT_C, Scheme
from tests.random_plans import forced_plan
from tests.splitting import imported, split_against_unsplit


def model_of(node: onnx.NodeProto, shape: tuple[int, ...], opset: int, **constants: np.ndarray) -> onnx.ModelProto:
    """A model of one node with the input x and float outputs."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def assert_splits(model: onnx.ModelProto, scheme: Scheme, layers_per_segment: int = 1) -> None:
    unsplit = imported(model)
    plan = forced_plan(unsplit.graph, 3, scheme, layers_per_segment)
    comparison = split_against_unsplit(model, unsplit, plan)
    assert comparison is not None
    assert comparison.equal, comparison


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("scheme", [IN_H, OUT_C])
def test_split_without_sizes_gets_them(opset: int, scheme: Scheme) -> None:
    attributes: dict[str, Any] = {"num_outputs": 2} if opset >= 18 else {}
    node = helper.make_node("Split", ["x"], ["y", "z"], axis=2, **attributes)
    assert_splits(model_of(node, (1, 4, 10, 3), opset), scheme)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("scheme", [IN_H, OUT_C])
def test_squeeze_without_axes_gets_them(opset: int, scheme: Scheme) -> None:
    node = helper.make_node("Squeeze", ["x"], ["y"])
    assert_splits(model_of(node, (1, 4, 2, 3, 3), opset), scheme)


@pytest.mark.parametrize("scheme", [IN_H, OUT_C, GRID_2D])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [9, 10, 13, 19])
def test_resize_yields_more_than_is_kept(opset: int, mode: str, scheme: Scheme) -> None:
    inputs = ["x", "scales"] if opset < 11 else ["x", "", "scales"]
    node = helper.make_node("Upsample" if opset == 9 else "Resize", inputs, ["y"], mode=mode)
    assert_splits(model_of(node, (1, 4, 10, 7), opset, scales=np.array([1, 1, 2, 2], np.float32)), scheme)


@pytest.mark.parametrize("scheme", [IN_H, OUT_C, GRID_2D])
def test_resize_to_sizes_gets_those_of_its_part(scheme: Scheme) -> None:
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic")
    assert_splits(model_of(node, (1, 4, 10, 7), 13, sizes=np.array([1, 4, 30, 14], np.int64)), scheme)


@pytest.mark.parametrize("scheme", [IN_H, OUT_C, GRID_2D])
def test_triangle_without_a_diagonal_gets_one(scheme: Scheme) -> None:
    assert_splits(model_of(helper.make_node("Trilu", ["x"], ["y"], upper=0), (1, 4, 10, 7), 14), scheme)


def test_concat_goes_without_inputs_of_which_nothing_is_needed() -> None:
    node = helper.make_node("Concat", ["x", "w", "x"], ["y"], axis=1)
    assert_splits(model_of(node, (1, 4, 10, 7), 13, w=np.ones((1, 5, 10, 7), np.float32)), OUT_C)


@pytest.mark.parametrize("scheme", [IN_H, OUT_C])
@pytest.mark.parametrize("taken", ["turn/1", "w[0:4, 0:2]"])
def test_names_of_a_subgraph_are_none_of_the_model(taken: str, scheme: Scheme) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "target"], ["turned"], name="turn"),
        helper.make_node("MatMul", ["turned", "w"], ["product"], name="multiply"),
        helper.make_node("Add", ["product", taken], ["y"], name="add"),
    ]
    model = model_of(nodes[0], (2, 4, 3), 13, target=np.array([2, 3, 4]), w=np.ones((4, 6), np.float32))
    model.graph.initializer.append(numpy_helper.from_array(np.full(1, 5, np.float32), taken))
    model.graph.node.extend(nodes[1:])
    model.graph.output[0].name = "y"
    assert_splits(model, scheme, layers_per_segment=3)


@pytest.mark.parametrize("scheme", [IN_H, IN_W, OUT_C])
def test_default_operator_set_under_its_long_name(scheme: Scheme) -> None:
    model = model_of(helper.make_node("Split", ["x"], ["y", "z"], axis=2), (1, 4, 10, 3), 13)
    model.graph.node.append(helper.make_node("Conv", ["y", "w"], ["v"], pads=[1, 1, 1, 1]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 4, 3, 3), np.float32), "w"))
    model.graph.output.add(name="v")
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    assert_splits(model, scheme)


@pytest.mark.parametrize("layers", [1, 2])
def test_an_output_is_not_quantised_with_what_is_made_of_it(layers: int) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Transpose", ["t"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("QuantizeLinear", ["turned", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        helper.make_node("Softsign", ["t"], ["z"]),
    ]
    model = model_of(nodes[0], (2, 4, 3), 13, scale=np.array(0.5, np.float32), zero=np.array(8, np.uint8))
    model.graph.node.extend(nodes[1:])
    model.graph.output[0].name = "y"
    model.graph.output.add(name="z")
    assert_splits(model, BATCH, layers)


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("scheme", [IN_H, IN_W, GRID_2D])
@pytest.mark.parametrize("shape", [(1, 2, 9, 8), (1, 2, 6, 5, 7)])
def test_padding_that_a_pool_counts_is_right_in_every_onnxruntime(
    shape: tuple[int, ...], scheme: Scheme, ceil_mode: int
) -> None:
    rank = len(shape) - 2
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3] * rank, strides=[2] * rank,
                            pads=[1] * 2 * rank, count_include_pad=1, ceil_mode=ceil_mode)  # fmt: skip
    assert_splits(model_of(node, shape, 22), scheme)
