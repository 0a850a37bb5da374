"""Measurement programs are ordinary programs: devices that are objects run them to their end."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.program import MASTER, BlobRef, DeviceProgram, Feed, Receive, Run, Send, SubgraphRef, Value
from flexpie.core.region import Region
from flexpie.core.routes import all_ways
from flexpie.core.tensor import ElementType
from flexpie.traces.programs import Cycle, Exchange, Measurement, Message, Work, computing, exchanging, streaming
from flexpie.wire.tensors import NUMPY_DTYPES
from flexpie.worker.engine import FakeEngine, FakeModel, Port
from flexpie.worker.inprocess import InProcessCluster

SHAPE = (2, 3)
MODEL = onnx.ModelProto(producer_name="work").SerializeToString()
WORK = Work(
    SubgraphRef("work", BlobRef("0" * 64, len(MODEL)), ()),
    Value("x", Region.whole(SHAPE), ElementType.FLOAT32),
    Value("y", Region.whole(SHAPE), ElementType.FLOAT32),
)


def _cluster(devices: int, topology: Topology = Topology.MESH) -> Cluster:
    names = [f"d{at}" for at in range(devices)]
    return Cluster(tuple(Device(name, f"{name}:1") for name in names), Link(1e9, 1e-4), topology)


def _all_to_all(devices: int, nbytes: int) -> Exchange:
    return tuple(Message(source, end, nbytes) for source, end in itertools.permutations(range(devices), 2))


def _run(measurement: Measurement) -> tuple[InProcessCluster, list[int]]:
    """Run it on devices in this process; returns how often each work was run, too."""
    runs: list[int] = []

    def function(arrays: object) -> list[np.ndarray]:
        runs.append(1)
        return [np.zeros(SHAPE, np.float32)]

    ports = [(Port(name, SHAPE, ElementType.FLOAT32),) for name in "xy"]
    engine = FakeEngine({MODEL: FakeModel(ports[0], ports[1], function)})
    cluster = InProcessCluster(measurement.programs, measurement.master, {"0" * 64: MODEL}, engine)
    master = measurement.master
    feeds = [master.values[step.value] for step in master.steps if isinstance(step, Feed)]
    cluster.infer({value.tensor: np.zeros(value.region.shape, NUMPY_DTYPES[value.dtype]) for value in feeds})
    return cluster, runs


def _count(program: DeviceProgram | None, kind: type) -> int:
    assert program is not None
    return sum(isinstance(step, kind) for step in program.steps)


def test_every_device_runs_its_works_as_often_as_asked() -> None:
    works = {0: {"a": (WORK, 5), "b": (WORK, 7)}, 2: {"a": (WORK, 2)}}
    measurement = computing(works, 3, batches=3)
    assert measurement.programs[1] is None
    _, runs = _run(measurement)
    assert len(runs) == 3 * (6 + 8 + 3)
    assert [(mark.device, mark.label, mark.rounds) for mark in measurement.marks if mark.label][:3] == [
        (0, "a", 5),
        (0, "b", 7),
        (0, "a", 5),
    ]


@pytest.mark.parametrize("topology", list(Topology))
def test_messages_are_moved_over_every_topology(topology: Topology) -> None:
    cycle = Cycle("all", (_all_to_all(4, 100), (Message(0, 2, 40),)), rounds=3, batches=2, observers=(1,))
    ways = all_ways(_cluster(4, topology))
    measurement = exchanging([cycle], dict.fromkeys(range(4), WORK), 4, ways)
    cluster, runs = _run(measurement)
    # In each batch: as much work alone, and then the rounds; on four devices, in front of two exchanges.
    assert len(runs) == 2 * 4 * 2 * (3 + 3)
    neighbours = {(stops[at], stops[at + 1]) for stops in ways.values() for at in range(len(stops) - 1)}
    assert {pair for pair in cluster.sent_bytes if MASTER not in pair} <= neighbours
    if topology is Topology.MESH:
        assert cluster.sent_bytes[0, 2] == 2 * 3 * (100 + 40) + 2 * 2  # and a byte to synchronise, twice a batch


def test_relays_do_not_run_into_one_another() -> None:
    """On a star everything between the outer devices passes the center, which takes part as well."""
    cycle = Cycle("all", (_all_to_all(5, 8),), rounds=2, batches=1, observers=(0,))
    cluster, _ = _run(exchanging([cycle], dict.fromkeys(range(5), WORK), 5, all_ways(_cluster(5, Topology.STAR))))
    # The center sends its own message to each of the others, and three that it relays.
    assert cluster.sent_bytes[0, 1] == 2 * 8 * 4 + 2 * 4


def test_a_device_may_send_to_itself() -> None:
    cycle = Cycle("self", ((Message(0, 0, 64), Message(0, 0, 64)),), rounds=4, batches=1, observers=(0,))
    cluster, _ = _run(exchanging([cycle], {0: WORK}, 1, {}))
    assert cluster.sent_bytes[0, 0] == 4 * 2 * 64


def test_a_device_streams_to_the_master() -> None:
    measurement = streaming([1], 2, messages=10, batches=3)
    assert measurement.programs[0] is None
    assert _count(measurement.programs[1], Send) == 3 * 11
    assert [mark.rounds for mark in measurement.marks if mark.label] == [10] * 3


def test_the_master_waits_for_the_marks_and_the_devices_run_distinct_messages() -> None:
    cycle = Cycle("all", (_all_to_all(3, 8),), rounds=2, batches=2, observers=(2,))
    measurement = exchanging([cycle], dict.fromkeys(range(3), WORK), 3, all_ways(_cluster(3)))
    assert _count(measurement.master, Receive) == len(measurement.marks)
    for program in measurement.programs:
        assert program is not None
        slots = [(step.exchange, step.source) for step in program.steps if isinstance(step, Receive)]
        assert len(slots) == len(set(slots))
        assert len({step for step in program.steps if isinstance(step, Run)}) == 1
    assert {mark.device for mark in measurement.marks} == {2}


def test_durations_are_per_round_and_between_marks_of_one_device() -> None:
    measurement = computing({0: {"a": (WORK, 4)}, 1: {"a": (WORK, 2)}}, 2, batches=2)
    times = iter([0.0, 4.0, 10.0, 18.0, 1.0, 2.0, 3.0, 6.0])
    arrivals = {(mark.number, mark.device): next(times) for mark in measurement.marks}
    assert measurement.durations(arrivals) == {(0, "a"): [1.0, 2.0], (1, "a"): [0.5, 1.5]}


def test_only_the_master_feeds() -> None:
    measurement = computing({0: {"a": (WORK, 1)}}, 1, batches=1)
    assert measurement.master.device == MASTER
    assert _count(measurement.programs[0], Feed) == 0
