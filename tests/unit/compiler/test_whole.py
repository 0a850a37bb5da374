"""Control flow, data-dependent shapes, sequences and foreign operators run whole, inside of an otherwise split plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from flexpie.compiler import lower
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.scheme import GRID_2D, IN_H, OUT_C, REPLICATED, Scheme
from flexpie.core.tensor import ElementType
from flexpie.planner.planning import make_plan
from flexpie.worker.engine import run_unsplit
from tests.random_plans import forced_plan
from tests.splitting import imported, run_split
from tests.unit.compiler import whole_cases as cases

Build = Callable[[], onnx.ModelProto]
CLUSTER = Cluster(tuple(Device(f"d{at}", f"d{at}:1") for at in range(3)), Link(125e6, 1e-4))

by_case = pytest.mark.parametrize("build", cases.CASES, ids=lambda build: build.__name__)


def feeds_of(model: onnx.ModelProto) -> dict[str, Any]:
    """One request."""
    x = np.random.default_rng(1).standard_normal((1, 4, 16, 16)).astype(np.float32)
    return {"x": x} | {name: cases.FEEDS[name] for name in (info.name for info in model.graph.input) if name != "x"}


def assert_same(expected: Any, actual: Any) -> None:
    """Within rounding; of any kind of value."""
    if isinstance(expected, list):
        assert len(expected) == len(actual)
        for one, other in zip(expected, actual, strict=True):
            assert_same(one, other)
    elif isinstance(expected, dict):
        assert_same(list(expected), list(actual))
        np.testing.assert_allclose(list(expected.values()), list(actual.values()), atol=1e-4)
    elif isinstance(expected, np.ndarray):
        assert (expected.shape, expected.dtype) == (actual.shape, actual.dtype)
        if expected.dtype == object:
            assert [str(item) for item in expected.flat] == [str(item) for item in actual.flat]
        else:
            np.testing.assert_allclose(actual, expected, atol=1e-4)
    else:
        assert expected == actual


@by_case
@pytest.mark.parametrize("scheme", [IN_H, OUT_C, GRID_2D], ids=str)
@pytest.mark.parametrize("layers_per_segment", [1, 3, 100])
def test_split_answers_what_unsplit_answers(build: Build, scheme: Scheme, layers_per_segment: int) -> None:
    model = build()
    feeds = feeds_of(model)
    unsplit = imported(model)
    actual, _ = run_split(unsplit, forced_plan(unsplit.graph, 3, scheme, layers_per_segment), feeds)
    expected = run_unsplit(model.SerializeToString(), feeds)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_same(value, actual[name])


@by_case
def test_the_convolutions_are_split_all_the_same(build: Build) -> None:
    graph = imported(build()).graph
    subgraphs = lower(graph, forced_plan(graph, 3, IN_H)).subgraphs
    ran = [{part.operator.name for subgraph in device for part in subgraph.parts} for device in subgraphs]
    assert all({"first", "relu"} <= names for names in ran)


@by_case
@pytest.mark.parametrize("scheme", ["auto", "OutC", "Replicated"])
def test_the_planner_takes_it(build: Build, scheme: str) -> None:
    model = build()
    unsplit = imported(model)
    plan = make_plan(unsplit.graph, CLUSTER, scheme=scheme).plan
    assert plan.predicted_seconds > 0
    run_split(unsplit, plan, feeds_of(model))


def test_what_is_opaque() -> None:
    def opaque(build: Build) -> set[str]:
        return {name for name, spec in imported(build()).graph.tensors.items() if spec.opaque}

    assert opaque(cases.nested_if) == opaque(cases.scan) == opaque(cases.empty) == opaque(cases.declared) == set()
    assert opaque(cases.functions) == set()
    assert opaque(cases.loop) == {"grown"}
    assert opaque(cases.non_zero) == {"where", "places", "values"}
    assert opaque(cases.optionals) == {"perhaps"}
    assert opaque(cases.narrow_types) == {"small"}
    assert opaque(cases.contributed) == {"g", "h", "z"}


def test_known_lengths_of_opaque_outputs_are_told() -> None:
    model = imported(cases.non_zero())
    assert model.open_shape("where") == (4, -1)
    assert model.open_shape("values") == (-1,)
    assert imported(cases.any_rank_input()).open_shape("z") == (-1,)


def test_layers_that_hand_on_a_value_of_unknown_type_stay_together() -> None:
    layers = imported(cases.contributed()).graph.layers
    assert [operator.op_type for operator in layers[-1].operators] == ["FusedConv", "FusedConv", "Conv"]


def test_an_unknown_domain_gets_the_refusal_of_onnxruntime_with_the_node() -> None:
    frobnicate = helper.make_node("Frobnicate", ["deep"], ["z"], domain="my.operators", name="frobnicator")
    model = imported(cases.model([frobnicate], [cases.info("z")], domains=["my.operators"]))
    with pytest.raises(FlexPieError, match="frobnicator") as caught:
        run_split(model, forced_plan(model.graph, 2, IN_H), {})
    assert caught.value.code is ErrorCode.EXECUTION_FAILED
    assert "my.operators:Frobnicate" in caught.value.message


def test_a_weight_that_onnxruntime_cannot_compute_with_is_refused() -> None:
    weight = onnx.TensorProto(name="k", data_type=onnx.TensorProto.COMPLEX64, dims=[1], float_data=[1, 1])
    model = cases.model(
        [helper.make_node("Identity", ["k"], ["z"])], [cases.info("z", onnx.TensorProto.COMPLEX64)], [weight]
    )
    with pytest.raises(FlexPieError, match="COMPLEX64") as caught:
        imported(model)
    assert caught.value.code is ErrorCode.UNSUPPORTED_MODEL


def test_a_shape_for_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(FlexPieError, match="items") as caught:
        imported(cases.sequence_input(), {"items": (1, 8)})
    assert caught.value.code is ErrorCode.INVALID_SHAPE


def test_an_input_of_unknown_rank_takes_a_shape() -> None:
    tensors = imported(cases.any_rank_input(), {"free": (8, 1, 1)}).graph.tensors
    assert tensors["free"].shape == (8, 1, 1)
    assert not tensors["z"].opaque


def test_element_types_that_numpy_lacks_keep_theirs() -> None:
    tensors = imported(cases.narrow_types()).graph.tensors
    assert (tensors["small"].dtype, tensors["q"].dtype) == (ElementType.FLOAT8E4M3FN, ElementType.INT4)


def drawing_models() -> dict[str, onnx.ModelProto]:
    """Noise, or a training Dropout, that two convolutions and the reply need."""
    weights = [cases.constant("ratio", np.float32(0.5)), cases.constant("train", True)]
    noise = cases.graph("noise", [helper.make_node("RandomUniformLike", ["deep"], ["n"])], [], [cases.info("n")])
    none = cases.graph("none", [helper.make_node("Neg", ["deep"], ["m"])], [], [cases.info("m")])
    nodes = {
        "normal": [helper.make_node("RandomNormalLike", ["deep"], ["r"])],
        "dropout": [helper.make_node("Dropout", ["deep", "ratio", "train"], ["r"])],
        "in_a_branch": [
            helper.make_node("ReduceMax", ["deep"], ["most"], keepdims=0),
            helper.make_node("Greater", ["most", "ratio"], ["on"]),
            helper.make_node("If", ["on"], ["r"], then_branch=noise, else_branch=none),
        ],
    }
    ends = [cases.info("r"), cases.info("y"), cases.info("z")]
    convs = [cases.conv("r", "y"), cases.conv("y", "z")]
    return {name: cases.model([*tail, *convs], ends, weights) for name, tail in nodes.items()}


@pytest.mark.parametrize("name", ["normal", "dropout", "in_a_branch"])
@pytest.mark.parametrize("scheme", [IN_H, OUT_C, REPLICATED], ids=str)
@pytest.mark.parametrize("layers_per_segment", [1, 2, 100])
def test_random_numbers_are_drawn_once(name: str, scheme: Scheme, layers_per_segment: int) -> None:
    model = drawing_models()[name]
    unsplit = imported(model)
    feeds = feeds_of(model)
    plan = forced_plan(unsplit.graph, 3, scheme, layers_per_segment)
    parts = [part.operator for device in lower(unsplit.graph, plan).subgraphs for spec in device for part in spec.parts]
    assert sum(operator.draws for operator in parts) == 1
    outputs, cluster = run_split(unsplit, plan, feeds)
    again = cluster.infer(feeds)
    assert not np.array_equal(outputs["r"], again["r"])
    # Every device has to have computed on the numbers that the reply shows.
    follow = cases.model([cases.conv("x2", "y"), cases.conv("y", "z")], [cases.info("y"), cases.info("z")],
                         inputs=[cases.info("x2", shape=cases.SHAPE)])  # fmt: skip
    for found in (outputs, again):
        expected = run_unsplit(follow.SerializeToString(), {"x": feeds["x"], "x2": found["r"]})
        assert_same(expected, {output: found[output] for output in expected})
