"""Importing folds, infers and links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import flexpie_models
from flexpie.compiler import importing
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.scheme import IN_H, OUT_C, Scheme, single
from tests.random_graphs import GraphWriter
from tests.random_plans import forced_plan
from tests.splitting import imported, split_against_unsplit


def writer(*shape: int) -> GraphWriter:
    made = GraphWriter(np.random.default_rng(0))
    made.shapes["x"] = shape
    return made


def test_batch_normalization_is_folded_and_activation_linked() -> None:
    graph = imported(flexpie_models.build("resnet18", image_size=64)).graph
    types = [[operator.op_type for operator in layer.operators] for layer in graph.layers]
    assert not any("BatchNormalization" in layer for layer in types)
    assert types[0] == ["Conv", "Relu"]
    assert ["Conv", "Add", "Relu"] in types


def test_dynamic_shapes_are_folded_away() -> None:
    model = flexpie_models.build("bert_tiny", dynamic=True)
    shapes = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 8))
    graph = imported(model, shapes).graph
    assert not {"Shape", "Constant"} & {operator.op_type for operator in graph.operators()}
    assert graph.tensors[graph.outputs[0]].shape[1] == 8


def test_a_tensor_with_two_readers_ends_its_layer() -> None:
    made = writer(1, 2, 5, 5)
    conv = made.add("Conv", ["x", made.weight(2, 2, 1, 1)])
    left, right = made.add("Relu", [conv]), made.add("Tanh", [conv])
    graph = imported(made.model(["x"], [made.add("Add", [left, right])])).graph
    assert [len(layer.operators) for layer in graph.layers] == [1, 1, 2]


def test_an_output_ends_its_layer() -> None:
    made = writer(1, 2, 5, 5)
    conv = made.add("Conv", ["x", made.weight(2, 2, 1, 1)])
    graph = imported(made.model(["x"], [conv, made.add("Relu", [conv])])).graph
    assert [len(layer.operators) for layer in graph.layers] == [1, 1]


def test_dead_operators_are_dropped() -> None:
    made = writer(1, 2, 5, 5)
    made.add("Exp", ["x"])
    graph = imported(made.model(["x"], [made.add("Relu", ["x"])])).graph
    assert [operator.op_type for operator in graph.operators()] == ["Relu"]


def test_unnamed_and_equally_named_nodes_get_names_of_their_own() -> None:
    made = writer(1, 2, 5, 5)
    middle = made.add("Relu", ["x"])
    made.add("Tanh", [middle])
    for node in made.nodes:
        node.name = ""
    model = imported(made.model(["x"], [made.nodes[-1].output[0]]))
    assert len(model.nodes) == 2


@pytest.mark.parametrize(
    ("kernel", "stride", "length", "pad", "count"), [(4, 4, 8, 3, 2), (1, 5, 8, 0, 2), (2, 3, 7, 0, 3), (3, 2, 6, 1, 3)]
)
def test_ceil_mode_counts_the_windows_that_onnxruntime_computes(
    kernel: int, stride: int, length: int, pad: int, count: int
) -> None:
    made = writer(1, 1, length)
    made.nodes.append(
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[kernel], strides=[stride], pads=[0, pad], ceil_mode=1)
    )
    made.shapes["y"] = (1, 1, count)
    graph = imported(made.model(["x"], ["y"])).graph
    assert graph.tensors["y"].shape == (1, 1, count)


def test_ceil_mode_is_settled_with_the_shapes_behind_the_pools_in_front() -> None:
    made = writer(1, 1, 23)
    second: dict[str, Any] = {"strides": [5], "pads": [0, 2], "ceil_mode": 1, "count_include_pad": 1}
    made.nodes += [
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[7], strides=[3], pads=[1, 6], ceil_mode=1),
        helper.make_node("AveragePool", ["y"], ["z"], kernel_shape=[4], **second),
    ]
    made.shapes["z"] = (1, 1, 2)
    proto = made.model(["x"], ["z"])
    proto.opset_import[0].version = 21
    model = imported(proto)
    assert [model.graph.tensors[name].shape[2] for name in "yz"] == [8, 2]
    comparison = split_against_unsplit(proto, model, forced_plan(model.graph, 1, single(0)))
    assert comparison is not None
    assert comparison.equal, comparison


@pytest.mark.parametrize("scheme", [IN_H, OUT_C])
@pytest.mark.parametrize(
    ("op_type", "shape", "attributes", "expected"),
    [
        ("Resize", (1, 2, 70, 4), {"mode": "linear"}, (1, 2, 91, 5)),
        ("Resize", (1, 2, 4, 10), {"mode": "nearest"}, (1, 2, 5, 13)),
        # Windows of one axis are left out, those of the other are more than fit: no other pool has just these.
        (
            "AveragePool",
            (1, 2, 22, 3),
            {"kernel_shape": [7, 3], "strides": [3, 5], "pads": [6, 2, 4, 1], "ceil_mode": 1, "count_include_pad": 1},
            (1, 2, 10, 1),
        ),
    ],
)
def test_shapes_are_those_that_onnxruntime_yields(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, Any], expected: tuple[int, ...], scheme: Scheme
) -> None:
    made = writer(*shape)
    inputs = ["x"]
    if op_type == "Resize":
        made.initializers.append(numpy_helper.from_array(np.array([1, 1, 1.3, 1.3], np.float32), "scales"))
        inputs = ["x", "", "scales"]
    made.nodes.append(helper.make_node(op_type, inputs, ["y"], **attributes))
    made.shapes["y"] = expected
    proto = made.model(["x"], [made.add("Relu", ["y"], expected)])
    proto.opset_import[0].version = 17
    model = imported(proto)
    assert model.graph.tensors["y"].shape == expected
    comparison = split_against_unsplit(proto, model, forced_plan(model.graph, 3, scheme))
    assert comparison is not None
    assert comparison.equal, comparison


def test_input_that_is_an_output() -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))
    model = helper.make_model(
        helper.make_graph([], "identity", [info], [info]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    graph = imported(model).graph
    assert (graph.inputs, graph.outputs, graph.layers) == (("x",), ("x",), ())


def test_shapes_are_known_behind_an_input_that_is_an_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_optimize", lambda model: None)  # which infers shapes by itself
    made = writer(1, 2, 5, 5)
    graph = imported(made.model(["x"], [made.add("Relu", ["x"]), "x"])).graph
    assert graph.tensors["t0"].shape == (1, 2, 5, 5)


def test_weight_that_is_an_output() -> None:
    made = writer(1, 3)
    weight = made.weight(3)
    made.shapes[weight] = (3,)
    model = made.model(["x"], [made.add("Add", ["x", weight]), weight])
    graph = imported(model).graph
    assert graph.outputs[1] == weight
    assert graph.tensors[weight].shape == (3,)
    assert weight not in graph.weights


def test_initializers_that_are_inputs_count_as_weights() -> None:
    weight = numpy_helper.from_array(np.ones((3,), np.float32), "w")
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (3,)) for name in ("x", "w")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3,))], [weight],
    )  # fmt: skip
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert imported(model).graph.inputs == ("x",)


def test_quantised_operators_keep_together() -> None:
    graph = imported(flexpie_models.build("mobilenet_v1_int8", image_size=64)).graph
    types = [[operator.op_type for operator in layer.operators] for layer in graph.layers]
    assert types[0] == ["QuantizeLinear"]
    assert types[1] == ["DequantizeLinear"] * 3 + ["Conv", "QuantizeLinear"]
    assert graph.layers[1].name.endswith("Conv")
    inner = {graph.tensors[name].dtype.value for layer in graph.layers[:-1] for name in graph.live_after(1)}
    assert inner == {"int8"}


@pytest.mark.parametrize("is_output", [False, True])
def test_a_dequantizer_with_two_readers_goes_with_both(is_output: bool) -> None:
    writer_ = writer(1, 2, 5, 5)
    scale, zero = writer_.weight(1, scale=0.0, offset=0.05), "zero"
    writer_.initializers[-1].CopyFrom(numpy_helper.from_array(np.float32(0.05), scale))
    writer_.initializers.append(numpy_helper.from_array(np.int8(0), zero))
    writer_.nodes.append(helper.make_node("QuantizeLinear", ["x", scale, zero], ["q"]))
    writer_.nodes.append(helper.make_node("DequantizeLinear", ["q", scale, zero], ["d"]))
    writer_.shapes["d"] = (1, 2, 5, 5)
    pooled = writer_.add("MaxPool", ["d"], kernel_shape=[2, 2])
    turned = writer_.add("Transpose", ["d"], perm=[0, 1, 3, 2])
    graph = imported(writer_.model(["x"], [pooled, turned, *["d"] * is_output])).graph
    assert [[operator.op_type for operator in layer.operators] for layer in graph.layers] == [
        ["QuantizeLinear"],
        *[["DequantizeLinear"]] * is_output,
        ["DequantizeLinear", "MaxPool"],
        ["DequantizeLinear", "Transpose"],
    ]


def _with_integers(made: GraphWriter, **values: np.ndarray) -> None:
    made.initializers += [numpy_helper.from_array(array, name) for name, array in values.items()]


def test_a_dequantizer_whose_scale_is_quantised_itself() -> None:
    made = writer(1, 4, 5, 5)
    _with_integers(made, sq=np.arange(1, 7, dtype=np.int8), wq=np.ones((6, 4, 1, 1), np.int8))
    made.initializers.append(numpy_helper.from_array(np.float32(0.01), "s"))
    made.nodes.append(helper.make_node("DequantizeLinear", ["sq", "s"], ["scale"]))
    made.nodes.append(helper.make_node("DequantizeLinear", ["wq", "scale"], ["w"], axis=0))
    made.shapes["w"] = (6, 4, 1, 1)
    (layer,) = imported(made.model(["x"], [made.add("Conv", ["x", "w"])])).graph.layers
    assert [operator.inputs[0] for operator in layer.operators] == ["sq", "wq", "x"]


def test_a_dequantizer_whose_scale_comes_later_than_its_data() -> None:
    made = writer(1, 4, 5, 5)
    _with_integers(made, zero=np.array(0, np.int8))
    made.initializers.append(numpy_helper.from_array(np.float32(0.05), "s"))
    made.nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"]))
    summed = made.add("Conv", ["x", made.weight(1, 4, 5, 5)], (1, 1, 1, 1))
    scale = made.add("Squeeze", [summed], ())
    made.nodes.append(helper.make_node("DequantizeLinear", ["q", scale], ["d"]))
    made.shapes["d"] = (1, 4, 5, 5)
    graph = imported(made.model(["x"], [made.add("Relu", ["d"])])).graph
    for index, layer in enumerate(graph.layers):
        assert all(graph.producer.get(tensor, -1) < index for tensor in layer.consumed)


@pytest.mark.parametrize(
    ("node", "values"),
    [
        (helper.make_node("ReverseSequence", ["x", "v"], ["y"], time_axis=5), [1, 1]),
        (helper.make_node("Gather", ["x", "v"], ["y"], axis=1), [0, 9]),
    ],
)
def test_a_node_at_which_its_rule_stumbles_is_left_to_onnxruntime(
    node: onnx.NodeProto, values: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    made = writer(2, 2, 5)
    _with_integers(made, v=np.array(values))
    made.nodes.append(node)
    made.shapes["y"] = (2, 2, 5)
    (operator,) = imported(made.model(["x"], ["y"])).graph.operators()
    assert operator.opaque
    assert f"({node.op_type}) is computed whole" in caplog.text


def test_an_attribute_of_a_function_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="c1")
    node.attribute.append(onnx.AttributeProto(name="pads", type=onnx.AttributeProto.INTS, ref_attr_name="pads"))
    kind = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info(name, kind, shape)
              for name, shape in (("x", (1, 1, 4, 4)), ("w", (1, 1, 3, 3)))]  # fmt: skip
    graph = onnx.helper.make_graph([node], "g", inputs, [onnx.helper.make_tensor_value_info("y", kind, (1, 1, 2, 2))])
    (tmp_path / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(FlexPieError) as caught:
        importing.import_model(tmp_path / "m.onnx")
    assert caught.value.code is ErrorCode.INVALID_MODEL


@pytest.mark.parametrize("pads", [(2**50, 0), (2**62, 2**62)])
def test_a_tensor_that_fits_no_machine_is_refused(tmp_path: Path, pads: tuple[int, int]) -> None:
    kind = onnx.TensorProto.FLOAT
    given = helper.make_tensor_value_info("x", kind, (1, 1, 8))
    weight = numpy_helper.from_array(np.ones((1, 1, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c1", pads=list(pads))
    graph = helper.make_graph([node], "g", [given], [helper.make_tensor_value_info("y", kind, None)], [weight])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(FlexPieError) as caught:
        importing.import_model(tmp_path / "m.onnx")
    assert caught.value.code is ErrorCode.INVALID_MODEL
