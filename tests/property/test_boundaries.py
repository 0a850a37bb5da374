"""Plans with float16 boundaries: random graphs on random devices, how far they are off, and what they send."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan
from flexpie.core.program import MASTER
from flexpie.core.routes import relayed_ways
from flexpie.planner.schedule import Sending, outline
from flexpie.reference.comparing import random_inputs
from tests.conftest import LONG
from tests.random_graphs import convolutional_models
from tests.random_plans import clusters, plans
from tests.splitting import imported, run_split, run_unsplit, split_against_unsplit

_PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=1500 if LONG else 150, suppress_health_check=_PATIENT)
@given(st.data())
def test_answers_are_off_by_no_more_than_rounding_to_float16(data: st.DataObject) -> None:
    model = data.draw(convolutional_models())
    unsplit = imported(model)
    plan = data.draw(plans(unsplit.graph, devices=data.draw(st.integers(2, 5))))
    comparison = split_against_unsplit(model, unsplit, replace(plan, boundary=Boundary.FLOAT16))
    assume(comparison is not None)
    assert comparison is not None
    assert comparison.equal, comparison


@settings(max_examples=800 if LONG else 80, suppress_health_check=_PATIENT)
@given(st.data())
def test_values_that_float16_holds_are_not_changed(data: st.DataObject) -> None:
    model = small_integers_model(data.draw(st.integers(1, 3)))
    unsplit = imported(model)
    plan = replace(data.draw(plans(unsplit.graph, 3)), boundary=Boundary.FLOAT16)
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-3, 4, (1, 2, 7, 6))
    feeds = {"x": values.astype(np.float32)}
    expected = run_unsplit(model, feeds)
    assert expected is not None
    np.testing.assert_array_equal(run_split(unsplit, plan, feeds)[0]["y"], expected["y"])


@settings(max_examples=600 if LONG else 60, suppress_health_check=_PATIENT)
@given(st.data())
def test_planner_and_programs_agree_on_every_message(data: st.DataObject) -> None:
    unsplit = imported(data.draw(convolutional_models()))
    cluster = data.draw(clusters(data.draw(st.integers(2, 4))))
    plan = data.draw(plans(unsplit.graph, len(cluster.devices)))
    boundary = data.draw(st.sampled_from(Boundary))
    plan = replace(plan, relayed=relayed_ways(cluster), boundary=boundary)
    feeds = random_inputs(unsplit.graph)
    with np.errstate(all="ignore"):
        _, devices = run_split(unsplit, plan, feeds)
    exact = predicted_bytes(unsplit.graph, cluster, plan)
    assert {link: n for link, n in devices.sent_bytes.items() if n} == {link: n for link, n in exact.items() if n}


def predicted_bytes(graph: LayerGraph, cluster: Cluster, plan: Plan) -> Counter[tuple[int, int]]:
    """Bytes from end to end as the simulation has them."""
    found: Counter[tuple[int, int]] = Counter()
    result = outline(graph.with_boundary(plan.boundary), cluster, plan.segments)
    for end, steps in ((MASTER, result.master), *enumerate(result.devices)):
        for step in steps:
            if isinstance(step, Sending):
                found[end, step.destination] += step.nbytes
    return found


def small_integers_model(depth: int) -> onnx.ModelProto:
    """Convolutions with weights of -1, 0 and 1: on small whole numbers, whatever they yield is a whole number below
    2048, which float16 holds."""
    helper, rng = onnx.helper, np.random.default_rng(depth)
    nodes, weights, name = [], [], "x"
    for number in range(depth):
        weight = rng.integers(-1, 2, (2, 2, 3, 3)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("Conv", [name, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Clip", [f"c{number}", "least", "most"], [f"r{number}"]))
        name = f"r{number}"
    weights += [onnx.numpy_helper.from_array(np.array(value, np.float32), key)
                for key, value in (("least", -100.0), ("most", 100.0))]  # fmt: skip
    nodes.append(helper.make_node("Add", [name, "x"], ["y"]))
    ports = [helper.make_tensor_value_info(port, onnx.TensorProto.FLOAT, [1, 2, 7, 6]) for port in ("x", "y")]
    graph = helper.make_graph(nodes, "small_integers", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
