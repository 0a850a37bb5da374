"""The simulator against the programs: its steps are theirs, and its times explain one another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexpie.compiler import lower
from flexpie.core.program import MASTER, DeviceProgram, Receive, Run, Send, Value
from flexpie.core.region import Region
from flexpie.core.routes import relayed_ways
from flexpie.core.tensor import item_bytes
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.schedule import Computing, Receiving, ScheduledStep, Sending, schedule
from flexpie.planner.simulation import simulate
from tests.conftest import LONG
from tests.random_graphs import convolutional_models
from tests.random_operators import operator_models
from tests.random_plans import clusters, plans
from tests.splitting import imported

_PATIENT = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

Step = tuple[str, int, int, int]
"""Kind; exchange and peer of a message, and its bytes."""


def _of_program(program: DeviceProgram | None) -> list[Step]:
    if program is None:
        return []
    found: list[Step] = []
    for step in program.steps:
        match step:
            case Send(exchange, destination, parts):
                nbytes = sum(_nbytes(program.values[part.value], part.region) for part in parts)
                found.append(("send", exchange, destination, nbytes))
            case Receive(exchange, source, indices):
                nbytes = sum(program.values[index].nbytes for index in indices)
                found.append(("receive", exchange, source, nbytes))
            case Run():
                found.append(("run", 0, 0, 0))
    return found


def _nbytes(value: Value, region: Region) -> int:
    return region.size * item_bytes(value.dtype, value.opaque)


def _of_schedule(steps: tuple[ScheduledStep, ...]) -> list[Step]:
    found: list[Step] = []
    for step in steps:
        match step:
            case Sending(exchange, destination, nbytes):
                found.append(("send", exchange, destination, nbytes))
            case Receiving(exchange, source, nbytes):
                found.append(("receive", exchange, source, nbytes))
            case Computing():
                found.append(("run", 0, 0, 0))
    return found


@settings(max_examples=1000 if LONG else 30, suppress_health_check=_PATIENT)
@given(st.data())
def test_it_follows_the_programs_step_by_step_and_byte_by_byte(data: st.DataObject) -> None:
    graph = imported(data.draw(st.one_of(convolutional_models(), operator_models()))).graph
    devices = data.draw(st.integers(1, 5))
    cluster = data.draw(clusters(devices))
    plan = replace(data.draw(plans(graph, devices)), relayed=relayed_ways(cluster))
    steps = schedule(graph, cluster, plan.segments, PhysicsCostModel(cluster))
    lowered = lower(graph, plan)
    assert _of_schedule(steps.master) == _of_program(lowered.master)
    assert list(map(_of_schedule, steps.devices)) == list(map(_of_program, lowered.programs))


@settings(max_examples=300 if LONG else 20, suppress_health_check=_PATIENT)
@given(st.data())
def test_every_device_accounts_for_the_whole_latency(data: st.DataObject) -> None:
    graph = imported(data.draw(convolutional_models())).graph
    devices = data.draw(st.integers(1, 5))
    cluster = data.draw(clusters(devices))
    model = PhysicsCostModel(cluster)
    requests, in_flight = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    jitter = data.draw(st.sampled_from((0.0, 0.3)))
    segments = data.draw(plans(graph, devices)).segments
    result = simulate(graph, cluster, segments, model, requests=requests, in_flight=in_flight, jitter=jitter, seed=1)
    assert len(result.latencies) == requests
    for device in range(devices):
        time = result.per_device(device)
        assert time.computing + time.waiting + time.sending == pytest.approx(result.latency)
        assert min(time.computing, time.sending, time.waiting + 1e-12) >= 0
        assert result.utilisation(device) <= 1 + 1e-9
    gathered = max(span.stop for span in result.spans if span.device == MASTER)
    assert result.makespan >= gathered - 1e-12  # from there the outputs go to the client
    assert all(span.start <= span.stop for span in result.spans)
    assert result.throughput * result.makespan == pytest.approx(requests)
