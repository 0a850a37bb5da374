"""Programs, checked step by step on a chain that is small enough to do by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie.compiler import lower
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.plan import Plan, Segment
from flexpie.core.program import MASTER, Assemble, DeviceProgram, Feed, Receive, Release, Run, Send, with_device
from flexpie.core.region import Region
from flexpie.core.scheme import DATA_PARALLEL, IN_H, OUT_C, REPLICATED, single
from flexpie.pipeline import compile_plan
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.simulation import simulate
from flexpie.reference.comparing import compare, random_inputs
from tests.random_graphs import GraphWriter, convolutional_models
from tests.random_plans import forced_plan, plan_of, plans
from tests.splitting import imported, in_process, run_unsplit, split_against_unsplit


def chain() -> onnx.ModelProto:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 2, 8, 4)
    first = writer.add("Conv", ["x", writer.weight(2, 2, 3, 3)], pads=[1] * 4)
    return writer.model(["x"], [writer.add("Conv", [first, writer.weight(2, 2, 3, 3)], pads=[1] * 4)])


def rows(start: int, stop: int) -> Region:
    return Region.of((0, 1), (0, 2), (start, stop), (0, 4))


def messages(program: DeviceProgram) -> list[tuple[str, int, list[Region]]]:
    found = []
    for step in program.steps:
        if isinstance(step, Send):
            found.append(("send", step.destination, [part.region for part in step.parts]))
        if isinstance(step, Receive):
            found.append(("receive", step.source, [program.values[value].region for value in step.values]))
    return found


def test_rows_on_two_devices() -> None:
    graph = imported(chain()).graph
    lowered = lower(graph, forced_plan(graph, 2, IN_H))
    assert messages(lowered.master) == [
        ("send", 0, [rows(0, 5)]),
        ("send", 1, [rows(3, 8)]),
        ("receive", 1, [rows(4, 8)]),
        ("receive", 0, [rows(0, 4)]),
    ]
    first = lowered.programs[0]
    assert first is not None
    assert messages(first) == [
        ("receive", MASTER, [rows(0, 5)]),
        ("send", 1, [rows(3, 4)]),
        ("receive", 1, [rows(4, 5)]),
        ("send", MASTER, [rows(0, 4)]),
    ]
    kinds = [type(step) for step in first.steps if not isinstance(step, Release)]
    assert kinds == [Receive, Run, Send, Receive, Assemble, Run, Send]


def test_fused_layers_exchange_nothing() -> None:
    graph = imported(chain()).graph
    lowered = lower(graph, forced_plan(graph, 2, IN_H, layers_per_segment=2))
    assert [message[:2] for message in messages(lowered.programs[1] or lowered.master)] == [
        ("receive", MASTER),
        ("send", MASTER),
    ]
    assert [part.operator.op_type for part in lowered.subgraphs[0][0].parts] == ["Conv", "Conv"]


def test_single_device_gets_everything_and_others_nothing() -> None:
    graph = imported(chain()).graph
    lowered = lower(graph, plan_of(graph, 3, [Segment(0, 2, single(1), (0.0, 1.0, 0.0))]))
    assert [program is not None for program in lowered.programs] == [False, True, False]


def test_replicated_output_comes_from_one_device() -> None:
    graph = imported(chain()).graph
    lowered = lower(graph, plan_of(graph, 2, [Segment(0, 2, REPLICATED, (1.0, 1.0))]))
    assert [message for message in messages(lowered.master) if message[0] == "receive"] == [
        ("receive", 0, [rows(0, 8)])
    ]


def test_input_that_is_an_output_stays_with_the_master() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 2, 4, 4)
    graph = imported(writer.model(["x"], ["x", writer.add("Relu", ["x"])])).graph
    lowered = lower(graph, forced_plan(graph, 2, OUT_C))
    assert isinstance(lowered.master.steps[0], Feed)
    assert len(lowered.master.outputs) == 2


def test_a_device_without_input_gets_an_empty_first_message() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 0)
    graph = imported(writer.model(["x"], [writer.add("Relu", ["x"])])).graph
    lowered = lower(graph, forced_plan(graph, 2, OUT_C))
    programs = [program for program in lowered.programs if program is not None]
    assert len(programs) == 1
    assert messages(programs[0])[0] == ("receive", MASTER, [])


def test_devices_that_wait_for_one_another_before_anything_comes_are_begun() -> None:
    """Nothing of the input is read, so the master sends nothing; both need each other's rows of the first layer."""
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 2, 0, 4)
    padded = writer.add("Pad", ["x", writer.integers(0, 0, 4, 0, 0, 0, 4, 0)])
    first = writer.add("Conv", [padded, writer.weight(2, 2, 3, 3)], pads=[1] * 4)
    written = writer.model(["x"], [writer.add("Conv", [first, writer.weight(2, 2, 3, 3)], pads=[1] * 4)])
    model = imported(written)
    plan = forced_plan(model.graph, 2, IN_H)
    for program in lower(model.graph, plan).programs:
        assert program is not None
        assert messages(program)[0] == ("receive", MASTER, [])
        assert ("receive", 1 - program.device) in [message[:2] for message in messages(program)]
    compared = split_against_unsplit(written, model, plan)
    assert compared is not None
    assert compared.equal
    cluster = Cluster((Device("a", "a:1"), Device("b", "b:1")), Link(1e8, 1e-4))
    assert simulate(model.graph, cluster, plan.segments, PhysicsCostModel(cluster)).latencies[0] > 0


@settings(max_examples=40)
@given(st.data())
def test_programs_are_complete(data: st.DataObject) -> None:
    """Every message that is sent is received, once, with the same parts; values are written before they are read and
    released after their last use; subgraphs are valid ONNX."""
    model = imported(data.draw(convolutional_models()))
    compiled = compile_plan(model, data.draw(plans(model.graph, data.draw(st.integers(1, 4)))))
    programs = {MASTER: compiled.master} | {p.device: p for p in compiled.programs if p is not None}
    sent, received = {}, {}
    for device, program in programs.items():
        alive: set[int] = set()
        for step in program.steps:
            if isinstance(step, Send):
                key = (step.exchange, device, step.destination)
                assert key not in sent
                sent[key] = [(program.values[part.value].tensor, part.region) for part in step.parts]
                assert {part.value for part in step.parts} <= alive
            elif isinstance(step, Receive):
                key = (step.exchange, step.source, device)
                assert key not in received
                received[key] = [(program.values[value].tensor, program.values[value].region) for value in step.values]
                alive |= set(step.values)
            elif isinstance(step, Run):
                assert set(step.inputs) <= alive
                alive |= set(step.outputs)
            elif isinstance(step, Assemble):
                assert {part.value for part in step.parts} <= alive
                assert sum(part.region.size for part in step.parts) == program.values[step.value].region.size
                alive.add(step.value)
            elif isinstance(step, Feed):
                alive.add(step.value)
            else:
                assert set(step.values) <= alive
                alive -= set(step.values)
        assert alive == set(program.outputs)
    assert sent == received
    for program in programs.values():
        for subgraph in program.subgraphs:
            proto = onnx.ModelProto.FromString(bytes(compiled.blobs[subgraph.model.sha256].open()))
            for tensor in proto.graph.initializer:
                tensor.ClearField("data_location")
            names = {tensor.name for tensor in proto.graph.initializer if tensor.external_data}
            for name in names:
                kept = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
                location = next(entry.value for entry in kept.external_data if entry.key == "location")
                del kept.external_data[:]
                kept.raw_data = bytes(compiled.blobs[location].open())
            onnx.checker.check_model(proto)


@settings(max_examples=25)
@given(st.data())
def test_each_device_that_takes_turns_answers_alone(data: st.DataObject) -> None:
    written = data.draw(convolutional_models())
    model = imported(written)
    shares = data.draw(st.sampled_from([(1.0, 1.0), (0.0, 1.0, 0.5), (2.0, 0.0, 0.0)]))
    segments = (Segment(0, len(model.graph.layers), DATA_PARALLEL, shares),)
    compiled = compile_plan(model, Plan(model.graph.signature, tuple("abc"[: len(shares)]), segments))
    taking_part = [device for device, share in enumerate(shares) if share]
    assert [program.device for program in filter(None, compiled.programs)] == taking_part
    feeds = random_inputs(model.graph)
    expected = run_unsplit(written, feeds)
    if expected is None:
        return
    for device in taking_part:
        alone = dataclasses.replace(
            compiled,
            master=with_device(compiled.master, device),
            programs=tuple(program if at == device else None for at, program in enumerate(compiled.programs)),
        )
        assert compare(expected, in_process(alone).infer(feeds)).equal


def test_devices_share_the_weights_that_they_hold_whole() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 16, 8, 8)
    model = imported(writer.model(["x"], [writer.add("Conv", ["x", writer.weight(32, 16, 3, 3)], pads=[1] * 4)]))
    rows_plan = compile_plan(model, forced_plan(model.graph, 2, IN_H))
    channels_plan = compile_plan(model, forced_plan(model.graph, 2, OUT_C))
    weights = [{ref.sha256 for p in compiled.programs if p for s in p.subgraphs for ref in s.weights}
               for compiled in (rows_plan, channels_plan)]  # fmt: skip
    assert [len(found) for found in weights] == [1, 2]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_blobs_are_read_in_chunks(chunk: int) -> None:
    model = imported(chain())
    for blob in compile_plan(model, forced_plan(model.graph, 2, IN_H)).blobs.values():
        content = b"".join(blob.chunks(chunk))
        assert content == bytes(blob.open())
        assert len(content) == blob.ref.nbytes
