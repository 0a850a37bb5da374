"""Plans are written, read back, and refused by name where they do not fit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import DATA_PARALLEL, IN_H, OUT_C, single
from flexpie.planner.plan_file import MOST_MISTAKES, plan_from_json, plan_to_json
from flexpie.planner.planning import make_plan, plan_given
from tests.random_plans import plans
from tests.unit.planner.graphs import cluster_of, conv_chain, residual_net

GRAPH = conv_chain(4)
CLUSTER = cluster_of(1.0, 0.5, 0.5)
PLAN = Plan(
    GRAPH.signature,
    ("pi-0", "pi-1", "pi-2"),
    (
        Segment(0, 2, IN_H, (1.0, 0.5, 0.0)),
        Segment(2, 3, single(2), (0.0, 0.0, 1.0)),
        Segment(3, 4, OUT_C, (1.0, 1.0, 1.0)),
    ),
)


def refusal(text: str) -> FlexPieError:
    with pytest.raises(FlexPieError) as caught:
        plan_from_json(text, GRAPH, CLUSTER)
    assert caught.value.code is ErrorCode.INVALID_PLAN
    assert caught.value.message.startswith("The plan file cannot be used: ")
    return caught.value


def edited(change: Callable[[Any], object]) -> str:
    """The file of `PLAN`, changed by hand."""
    content = json.loads(plan_to_json(GRAPH, CLUSTER, PLAN))
    change(content)
    return json.dumps(content)


def test_a_file_names_layers_and_devices() -> None:
    content = json.loads(plan_to_json(GRAPH, CLUSTER, PLAN))
    assert content["segments"][0] == {"layers": ["t0", "t1"], "scheme": "InH", "shares": {"pi-0": 1.0, "pi-1": 0.5}}
    assert content["segments"][1] == {"layers": ["t2"], "scheme": "Single", "shares": {"pi-2": 1.0}}
    assert (content["format"], content["version"]) == ("flexpie-plan", 2)
    assert content["model"]["signature"] == GRAPH.signature
    assert content["cluster"]["devices"] == ["pi-0", "pi-1", "pi-2"]


@settings(max_examples=50)
@given(st.data())
def test_every_plan_comes_back(data: st.DataObject) -> None:
    drawn = data.draw(plans(GRAPH, 3))
    boundary = data.draw(st.sampled_from(Boundary))
    plan = dataclasses.replace(drawn, devices=PLAN.devices, relayed=(), boundary=boundary)
    assert plan_from_json(plan_to_json(GRAPH, CLUSTER, plan), GRAPH, CLUSTER) == plan


def test_what_is_read_is_predicted_like_what_was_searched() -> None:
    graph = residual_net(blocks=2, size=28, channels=16)
    found = make_plan(graph, CLUSTER)
    read = plan_from_json(plan_to_json(graph, CLUSTER, found.plan), graph, CLUSTER)
    result = plan_given(graph, CLUSTER, read)
    assert result.plan == found.plan
    assert result.single_device == found.single_device


def test_speeds_bandwidth_and_addresses_may_change() -> None:
    text = plan_to_json(GRAPH, CLUSTER, PLAN)
    assert plan_from_json(text, GRAPH, cluster_of(0.1, 2.0, 3.0, bandwidth=1e6, latency=1.0)) == PLAN


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "line 1, column 1: expected JSON"),
        ('{"format": "flexpie-plan",\n "version": 1,}', "line 2, column 15: expected JSON"),
        ("[]", 'expected "format": "flexpie-plan" at the top'),
        ('{"devices": []}', 'expected "format": "flexpie-plan" at the top'),
        ('{"format": "flexpie-plan", "version": 3}', "it has version 3; this FlexPie reads versions 1 and 2"),
        ('{"format": "flexpie-plan"}', "it has version None"),
        ('{"format": "flexpie-plan", "format": 1}', "'format' is there twice"),
        ('{"format": "flexpie-plan", "version": 1, "x": NaN}', "NaN is no number of JSON"),
        ('{"format": "flexpie-plan", "version": 1}', "segments: field required"),
    ],
)
def test_what_is_no_plan_file_is_refused(text: str, what: str) -> None:
    assert what in refusal(text).message


def test_a_file_of_version_1_is_read_and_is_exact() -> None:
    def older(content: Any) -> None:
        content["version"] = 1
        del content["boundary"]

    assert plan_from_json(edited(older), GRAPH, CLUSTER) == PLAN
    assert "a file of version 1 has none" in refusal(edited(lambda content: content.update(version=1))).message


@pytest.mark.parametrize(
    ("boundary", "what"), [("fp16", "expected one of float32, float16"), ("Float16", "did you mean")]
)
def test_a_boundary_that_is_none_is_refused(boundary: str, what: str) -> None:
    assert what in refusal(edited(lambda content: content.update(boundary=boundary))).message


def test_a_plan_with_float16_boundaries_is_predicted_with_fewer_bytes() -> None:
    exact, narrow = (plan_given(GRAPH.with_boundary(item), CLUSTER, PLAN).plan for item in Boundary)
    inputs, *inner = zip(exact.costs, narrow.costs, strict=True)
    assert inputs[0].exchange_bytes == inputs[1].exchange_bytes > 0
    assert [wide.exchange_bytes for wide, _ in inner] == [2 * half.exchange_bytes for _, half in inner]
    assert narrow.predicted_seconds < exact.predicted_seconds
    assert narrow.boundary is Boundary.FLOAT16
    assert plan_from_json(plan_to_json(GRAPH, CLUSTER, narrow), GRAPH, CLUSTER).boundary is Boundary.FLOAT16


def test_a_plan_for_another_model_is_refused() -> None:
    other = conv_chain(5)
    text = plan_to_json(other, CLUSTER, Plan(other.signature, PLAN.devices, (Segment(0, 5, IN_H, (1.0, 1.0, 1.0)),)))
    message = refusal(text).message
    assert f"another model: test with 5 layers for x0 1x8x16x16 (signature {other.signature[:12]})" in message
    assert f"this is test with 4 layers for x0 1x8x16x16 (signature {GRAPH.signature[:12]})" in message


@pytest.mark.parametrize(
    ("cluster", "difference"),
    [
        (cluster_of(1.0, 1.0), "it has no pi-2"),
        (cluster_of(1.0, 1.0, 1.0, 1.0), "it has pi-3 besides"),
        (cluster_of(1.0, 1.0, 1.0, topology=Topology.RING), "its topology is ring, not mesh"),
        (
            dataclasses.replace(CLUSTER, devices=CLUSTER.devices[::-1]),
            "its devices come in another order: pi-2, pi-1, pi-0, not pi-0, pi-1, pi-2",
        ),
        (dataclasses.replace(CLUSTER, missing=frozenset({("pi-0", "pi-1")})), "the ways between its devices"),
    ],
)
def test_a_plan_for_another_cluster_is_refused(cluster: Any, difference: str) -> None:
    with pytest.raises(FlexPieError, match="it was made for another cluster") as caught:
        plan_from_json(plan_to_json(GRAPH, CLUSTER, PLAN), GRAPH, cluster)
    assert caught.value.code is ErrorCode.INVALID_PLAN
    assert difference in caught.value.message


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: c["segments"][0]["layers"].append("t9"), "segments[0]: the model has no layer 't9'"),
        (lambda c: c["segments"][0]["layers"].append("T2"), "'T2' (did you mean 't2'?)"),
        (lambda c: c["segments"][0]["layers"].append("t2"), "segments[1]: the layer 't2' is in segments[0] already"),
        (lambda c: c["segments"][0]["layers"].pop(), "no segment has the layer 't1', which follows 't0'"),
        (lambda c: c["segments"][0]["layers"].pop(0), "no segment has the layer 't0', the first one"),
        (lambda c: c["segments"].reverse(), "segments[1]: the layer 't2' comes after 't3', but runs before it"),
        (lambda c: c["segments"][2].update(layers=[]), "segments[2].layers: list should have at least 1 item"),
        (lambda c: c["segments"][0].update(scheme="inh"), "expected one of InH, InW"),
        (lambda c: c["segments"][0].update(scheme="inh"), "(did you mean 'InH'?), found 'inh'"),
        (lambda c: c["segments"][0]["shares"].update({"pi-9": 1.0}), "the cluster has no device 'pi-9'"),
        (lambda c: c["segments"][0]["shares"].update({"pi-0": -1}), "segments[0].shares.pi-0: input should be greater"),
        (lambda c: c["segments"][0]["shares"].update({"pi-0": "half"}), "found 'half'"),
        (lambda c: c["segments"][0].update(shares={"pi-0": 0}), "segments[0].shares: expected a share above 0"),
        (lambda c: c["segments"][1]["shares"].update({"pi-0": 1}), "Single is for one device, found shares of pi-2, p"),
        (lambda c: c["segments"][1].update(share={}), "segments[1].share: extra inputs are not permitted"),
        (lambda c: c.update(segments=[]), "no segment has the layer 't0'"),
    ],
)  # fmt: skip
def test_mistakes_of_an_editor_are_named(change: Callable[[Any], object], what: str) -> None:
    assert what in refusal(edited(change)).message


def test_devices_that_take_turns_have_the_whole_model() -> None:
    plan = dataclasses.replace(PLAN, segments=(Segment(0, 4, DATA_PARALLEL, (1.0, 0.5, 0.0)),))
    text = plan_to_json(GRAPH, CLUSTER, plan)
    assert plan_from_json(text, GRAPH, CLUSTER).segments == plan.segments
    mixed = edited(lambda content: content["segments"][0].update(scheme="DataParallel"))
    assert "DataParallel is for a plan of one segment, found 3" in refusal(mixed).message


@pytest.mark.parametrize("shares", [{"pi-0": 1e308, "pi-1": 1e308}, {"pi-0": 1e-300, "pi-1": 1.0}])
def test_shares_that_no_division_keeps_to_are_refused(shares: dict[str, float]) -> None:
    assert "segments" in refusal(edited(lambda content: content["segments"][0].update(shares=shares))).message


def test_of_many_mistakes_some_are_shown() -> None:
    long = conv_chain(20)
    text = edited(lambda content: content.update(segments=[]))
    text = text.replace(GRAPH.signature, long.signature)
    with pytest.raises(FlexPieError) as caught:
        plan_from_json(text, long, CLUSTER)
    assert f"and {20 - MOST_MISTAKES} more mistakes" in caught.value.message


def test_a_given_plan_must_fit_the_memory() -> None:
    tight = cluster_of(1.0, 0.5, 0.5, memory=(1000, None, None))
    with pytest.raises(FlexPieError, match=r"pi-0 needs [\d.]+ MB .* and has 0.0 MB") as caught:
        plan_given(GRAPH, tight, PLAN)
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY


def test_a_plan_goes_on_where_idle_devices_are_gone_and_no_further() -> None:
    plan = Plan(
        GRAPH.signature, PLAN.devices, (Segment(0, 3, IN_H, (0.0, 1.0, 2.0)), Segment(3, 4, single(2), (0, 0, 1.0)))
    )
    moved = plan.on(("pi-1", "pi-2"))
    assert moved is not None
    assert moved.segments == (Segment(0, 3, IN_H, (1.0, 2.0)), Segment(3, 4, single(1), (0, 1.0)))
    assert moved.on(("pi-0", "pi-1", "pi-2")) == plan
    assert plan.on(("pi-0", "pi-1")) is None
