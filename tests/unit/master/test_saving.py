"""A deployment comes back from its bytes as it was, and its fingerprint tells whether it still fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.program import MASTER, DeviceProgram
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.deployment import Deployment
from flexpie.master.events import PlanSummary, SegmentSummary
from flexpie.master.interface import Interface
from flexpie.master.saving import Saved, fingerprint, plan_key, saved_from_bytes, saved_to_bytes
from flexpie.pipeline import compile_plan
from tests.random_graphs import convolutional_models
from tests.random_plans import plans
from tests.splitting import imported

CLUSTER = Cluster((Device("a", "a:1"), Device("b", "b:1")), Link(1e9, 1e-4), links={("a", "b"): Link(1e8, 1e-3)})
ENTRY = ModelEntry("cat", Path("/models/cat.onnx"), ({"x": (1, 2)},))
SUMMARY = PlanSummary(("a",), (SegmentSummary(("l",), "InH", (1.0, 2.0), 0.1, 0.2, 3),), 0.5, 0.9, "planned anew", 7.0,
                      single_device_fits=False)  # fmt: skip


@given(st.data())
def test_a_deployment_comes_back_as_it_was(data: st.DataObject) -> None:
    model: onnx.ModelProto = data.draw(convolutional_models())
    graph = imported(model)
    compiled = compile_plan(graph, data.draw(plans(graph.graph, 3)))
    programs = {index: program for index, program in enumerate(compiled.programs) if program is not None}
    outputs = tuple(replace(graph.graph.tensors[name], grain=()) for name in graph.graph.outputs)
    turns = data.draw(st.dictionaries(st.integers(0, 2), st.floats(0.1, 1.0), max_size=3))
    deployment = Deployment("d-1", "cat", compiled.plan.devices, tuple(programs), compiled.master, outputs, turns=turns)
    shown = Interface((TensorSpec("x", (1, -1), ElementType.INT8),), (TensorSpec("y", (), ElementType.STRING, True),))
    saved = Saved(deployment, ("device-0", "device-1"), programs, shown, SUMMARY, "plan")
    assert saved_from_bytes(saved_to_bytes(saved), "cat") == saved


@pytest.mark.parametrize("content", [b"\xff", b"\x22\x02\x08\x01"])
def test_bytes_that_cannot_be_read_are_no_deployment(content: bytes) -> None:
    assert saved_from_bytes(content, "cat") is None


def test_whatever_a_deployment_follows_from_changes_its_fingerprint() -> None:
    device, link = CLUSTER.devices[0], Link(1e9, 2e-4)
    clusters = [
        CLUSTER,
        replace(CLUSTER, devices=(replace(device, speed=2.0), CLUSTER.devices[1])),
        replace(CLUSTER, devices=(replace(device, address="c:1"), CLUSTER.devices[1])),
        replace(CLUSTER, link=link),
        replace(CLUSTER, links={}),
        replace(CLUSTER, missing=frozenset({("b", "a")})),
    ]
    entries = [
        ENTRY,
        replace(ENTRY, profiles=({"x": (1, 3)},)),
        replace(ENTRY, scheme="InH"),
        replace(ENTRY, objective="memory"),
        replace(ENTRY, plan="{}"),
        replace(ENTRY, boundary=Boundary.FLOAT16),
    ]
    found = {fingerprint(content, entry, 0, cluster)
             for content in ("1", "2") for entry in entries for cluster in clusters}  # fmt: skip
    assert len(found) == 2 * len(entries) * len(clusters)
    assert fingerprint("1", replace(ENTRY, path=Path("/elsewhere")), 0, CLUSTER) == fingerprint("1", ENTRY, 0, CLUSTER)


def test_the_order_of_links_does_not_matter() -> None:
    links = {("a", "b"): Link(1e8, 1e-3), ("b", "a"): Link(1e7, 1e-3)}
    backwards = dict(reversed(links.items()))
    keys = {plan_key("m", (), replace(CLUSTER, links=given), "auto", "latency", Boundary.FLOAT32)
            for given in (links, backwards)}  # fmt: skip
    assert len(keys) == 1


def test_plans_of_one_boundary_are_not_used_for_another() -> None:
    assert len({plan_key("m", (), CLUSTER, "auto", "latency", boundary) for boundary in Boundary}) == 2


def test_a_deployment_that_is_taken_up_again_has_its_boundary() -> None:
    programs = {1: DeviceProgram(1, (), ())}
    deployment = Deployment("d", "cat", ("a", "b"), (1,), DeviceProgram(MASTER, (), ()), (), boundary=Boundary.FLOAT16)
    saved = Saved(deployment, ("a", "b"), programs, Interface((), ()), replace(SUMMARY, boundary=Boundary.FLOAT16))
    assert saved_from_bytes(saved_to_bytes(saved), "cat") == saved
