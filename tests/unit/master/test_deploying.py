"""Deploying a model: the stages in their order, each device gets what it lacks, and nothing is done twice."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flexpie.compiler.blobs import Blob, blob_of
from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Plan, Segment, SegmentCost
from flexpie.core.program import MASTER, DeviceProgram, SubgraphRef
from flexpie.core.scheme import IN_H
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master import deploying, ports
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.deploying import Deployer
from flexpie.master.deployment import Deployment
from flexpie.master.events import DeploymentPlanned, Event, ModelImported, PlanSummary, SegmentSummary, StageReached
from flexpie.master.instructions import StartDeployment
from flexpie.master.interface import Interface
from flexpie.master.planned import usable_cluster
from flexpie.planner.occupation import Occupation
from flexpie.wire.v1 import worker_pb2

CLUSTER = Cluster(tuple(Device(name, f"{name}:1") for name in "abc"), Link(1e9, 1e-4))
X = TensorSpec("x", (4,), ElementType.FLOAT32)
ENTRY = ModelEntry("cat", Path("cat.onnx"), ({"x": (4,)},), "InH")
SHARED, OWN = (blob_of(lambda content=content: memoryview(content)) for content in (b"shared", b"own"))  # type: ignore[misc]


class FakePipeline:
    """Gives the first and the last device a program each, which share a blob."""

    def __init__(self) -> None:
        self.imports = 0
        self.twins: list[Any] = []
        self.good_imports = 0
        """Before the error."""
        self.planned: list[tuple[int, ...]] = []
        self.siblings: list[list[tuple[int, ...]]] = []
        self.boundaries: list[Boundary] = []
        self.given_boundary = Boundary.FLOAT32
        """Of the plan files that are read."""
        self.before_plan: Callable[[], object] = lambda: None
        self.error: FlexPieError | None = None

    def import_file(
        self,
        path: Path,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        name: str | None = None,
        twin: Any = None,
    ) -> Any:
        self.imports += 1
        self.twins.append(twin)
        if self.error and self.imports > self.good_imports:
            raise self.error
        assert (path, name) == (ENTRY.path, "cat")
        x = TensorSpec("x", tuple((input_shapes or {})["x"]), ElementType.FLOAT32)
        layers = tuple(SimpleNamespace(name=f"layer{at}") for at in range(3))
        graph = SimpleNamespace(name="cat", inputs=("x",), outputs=("x",), tensors={"x": x}, layers=layers)
        return SimpleNamespace(graph=graph)

    def plan_model(
        self,
        model: Any,
        cluster: Cluster,
        scheme: str = "auto",
        objective: str = "latency",
        siblings: Sequence[Any] = (),
        boundary: Boundary = Boundary.FLOAT32,
    ) -> Any:
        assert (scheme, objective) == ("InH", "latency")
        self.boundaries.append(boundary)
        self.siblings.append([sibling.graph.tensors["x"].shape for sibling in siblings])
        self.before_plan()
        self.planned.append(model.graph.tensors["x"].shape)
        names = tuple(device.name for device in cluster.devices)
        shares = (1.0,) * len(names)
        segment = Segment(0, 3, IN_H, shares)
        plan = Plan("digest", names, (segment,), (SegmentCost((0.1, 0.3), 0.2, 77),), predicted_seconds=0.5)
        alone = Plan("digest", names, (segment,), predicted_seconds=0.9)
        occupation = Occupation(np.full(4, 0.1), np.zeros(4), np.zeros(4))
        return SimpleNamespace(plan=plan, latency_seconds=0.5, single_device=alone, single_device_seconds=0.9,
                               exact=True, reason="Because.",
                               occupation=occupation, single_device_fits=False)  # fmt: skip

    def read_plan(self, text: str, model: Any, cluster: Cluster) -> Plan:
        """A plan file of these tests names the devices that take part."""
        names = tuple(device.name for device in cluster.devices)
        shares = tuple(float(name in text) for name in names)
        return Plan("digest", names, (Segment(0, 3, IN_H, shares),), boundary=self.given_boundary)

    def write_plan(self, model: Any, cluster: Cluster, plan: Plan) -> str:
        return " ".join(plan.devices)

    def predict_plan(self, model: Any, cluster: Cluster, plan: Plan) -> Any:
        costs = (SegmentCost((0.1,) * len(plan.devices), 0.2, 5),)
        predicted = dataclasses.replace(plan, costs=costs, predicted_seconds=0.25)
        occupation = Occupation(np.full(4, 0.1), np.zeros(4), np.zeros(4))
        return SimpleNamespace(plan=predicted, latency_seconds=0.25, single_device=predicted,
                               single_device_seconds=0.9, exact=False, reason="Given.",
                               occupation=occupation, single_device_fits=True)  # fmt: skip

    def compile_plan(self, model: Any, plan: Plan) -> Any:
        def program(index: int, *blobs: Blob) -> DeviceProgram:
            subgraph = SubgraphRef("s", blobs[0].ref, tuple(blob.ref for blob in blobs[1:]))
            return DeviceProgram(index, (), (), subgraphs=(subgraph, subgraph))

        last = len(plan.devices) - 1
        programs = (program(0, SHARED, OWN), *[None] * (last - 1), program(last, SHARED))
        blobs = {blob.ref.sha256: blob for blob in (SHARED, OWN)}
        return SimpleNamespace(plan=plan, master=DeviceProgram(MASTER, (), ()), programs=programs, blobs=blobs)


class FakeLink:
    """Has some blobs already, and remembers what it is told."""

    def __init__(self, *known: Blob) -> None:
        self.known = list(known)
        self.deployed: list[worker_pb2.DeployRequest] = []
        self.error: FlexPieError | None = None

    async def missing(self, blobs: Sequence[Blob]) -> list[Blob]:
        return [blob for blob in blobs if blob not in self.known]

    async def push(self, blobs: Sequence[Blob], on_pushed: Callable[[int], None]) -> None:
        for blob in blobs:
            self.known.append(blob)
            on_pushed(blob.ref.nbytes)

    async def deploy(self, request: worker_pb2.DeployRequest) -> worker_pb2.DeployReply:
        if self.error:
            raise self.error
        self.deployed.append(request)
        return worker_pb2.DeployReply(resident_bytes=11)


class Bench:
    """A deployer among fakes."""

    def __init__(self) -> None:
        self.pipeline = FakePipeline()
        self.links = {"a": FakeLink(), "b": FakeLink(), "c": FakeLink(SHARED)}
        self.told: list[Event] = []
        self.deployer = Deployer(self.pipeline, CLUSTER, self.links, "master-1", self.told.append)

    def deploy(self, *deployments: str) -> list[Deployment]:
        async def run() -> list[Deployment]:
            starts = [StartDeployment(name, ENTRY, ("a", "b", "c")) for name in deployments]
            return [await self.deployer.deploy(start, {}) for start in starts]

        return asyncio.run(run())


def test_the_stages_are_told_in_their_order() -> None:
    bench = Bench()
    (deployment,) = bench.deploy("d")
    pushed = len(b"shared") + len(b"own")
    segment = SegmentSummary(("layer0", "layer1", "layer2"), "InH", (1.0, 1.0, 1.0), 0.3, 0.2, 77)
    assert bench.told == [
        StageReached("d", "import"),
        ModelImported("cat", (Interface((X,), (X,)),)),
        StageReached("d", "plan"),
        StageReached("d", "compile"),
        DeploymentPlanned(
            "d", PlanSummary(("a", "c"), (segment,), 0.5, 0.9, requests_per_second=10.0, single_device_fits=False)
        ),
        StageReached("d", "push", 0, 0, "bytes"),
        StageReached("d", "push", len(b"shared"), pushed, "bytes"),
        StageReached("d", "push", pushed, pushed, "bytes"),
        StageReached("d", "build", 0, 2, "devices"),
        StageReached("d", "build", 1, 2, "devices"),
        StageReached("d", "build", 2, 2, "devices"),
    ]
    assert (deployment.id, deployment.devices, deployment.participants) == ("d", ("a", "b", "c"), (0, 2))
    assert deployment.resident_bytes == {"a": 11, "c": 11}
    assert deployment.pushed_bytes == pushed


def test_only_participants_are_deployed_with_what_they_must_know() -> None:
    bench = Bench()
    bench.deploy("d")
    assert bench.links["b"].deployed == []
    (request,) = bench.links["c"].deployed
    assert (request.deployment_id, request.model, request.master_id) == ("d", "cat", "master-1")
    assert request.program.device == 2
    assert list(request.device_names) == ["a", "b", "c"]


def test_a_model_is_imported_once_and_pushed_once() -> None:
    bench = Bench()
    first, second = bench.deploy("d", "e")
    assert bench.pipeline.imports == 1
    assert (first.pushed_bytes, second.pushed_bytes) == (9, 0)


def test_nothing_of_a_deployment_that_has_ended_is_kept() -> None:
    bench = Bench()
    bench.deploy("d", "e")
    gone, kept = (weakref.ref(bench.deployer.planned[name]) for name in "de")
    bench.deployer.forget_deployment("d")
    assert gone() is None
    assert kept() is not None


def test_nothing_is_kept_of_what_is_only_pushed() -> None:
    bench = Bench()
    start = StartDeployment("d", ENTRY, ("a", "b", "c"), standby=True, pushed_only=True)
    asyncio.run(bench.deployer.deploy(start, {}))
    assert (bench.deployer.planned, bench.deployer.standbys) == ({}, {})


GIVEN = dataclasses.replace(ENTRY, plan="a c")


def _planned(bench: Bench, devices: tuple[str, ...]) -> PlanSummary:
    asyncio.run(bench.deployer.deploy(StartDeployment("d", GIVEN, devices), {}))
    (summary,) = [event.plan for event in bench.told if isinstance(event, DeploymentPlanned)]
    return summary


@pytest.mark.parametrize("devices", [("a", "b", "c"), ("a", "c")])
def test_a_given_plan_is_deployed_while_all_that_take_part_are_there(devices: tuple[str, ...]) -> None:
    bench = Bench()
    summary = _planned(bench, devices)
    assert summary.segments[0].shares == tuple(float(name != "b") for name in devices)
    assert (summary.predicted_seconds, summary.remark) == (0.25, "")
    assert bench.pipeline.planned == []


def test_without_one_of_its_devices_a_given_plan_gives_way_to_another() -> None:
    bench = Bench()
    summary = _planned(bench, ("a", "b"))
    assert summary.remark == "planned anew: the plan that was given needs c"
    assert summary.predicted_seconds == 0.5
    assert bench.pipeline.planned == [(4,)]


def test_what_is_planned_instead_of_a_given_plan_has_its_boundary() -> None:
    bench = Bench()
    bench.pipeline.given_boundary = Boundary.FLOAT16
    _planned(bench, ("a", "b"))
    assert bench.pipeline.boundaries == [Boundary.FLOAT16]


def test_a_model_is_planned_with_its_boundary_and_told_so() -> None:
    bench = Bench()
    entry = dataclasses.replace(ENTRY, boundary=Boundary.FLOAT16)
    asyncio.run(bench.deployer.deploy(StartDeployment("d", entry, ("a", "b", "c")), {}))
    assert bench.pipeline.boundaries == [Boundary.FLOAT16]


PROFILES = dataclasses.replace(ENTRY, profiles=({"x": (4,)}, {"x": (8,)}))


def _deploy_profiles(bench: Bench, *starts: StartDeployment) -> None:
    async def run() -> None:
        for start in starts:
            await bench.deployer.deploy(start, {})

    asyncio.run(run())


def test_a_model_is_imported_once_for_each_profile_before_any_is_planned() -> None:
    bench = Bench()
    starts = [StartDeployment("0", PROFILES, ("a", "b", "c"), siblings=(1,)),
              StartDeployment("1", PROFILES, ("a", "b", "c"), profile=1)]  # fmt: skip
    _deploy_profiles(bench, *starts)
    assert bench.pipeline.imports == 2
    assert bench.pipeline.twins[0] is None
    assert bench.pipeline.twins[1].graph.tensors["x"].shape == (4,), "weights are shared with the first"
    interfaces = tuple(Interface((x,), (x,)) for x in (X, dataclasses.replace(X, shape=(8,))))
    assert [event for event in bench.told if isinstance(event, ModelImported)] == [ModelImported("cat", interfaces)] * 2
    assert bench.pipeline.planned == [(4,), (8,)]
    assert bench.pipeline.siblings == [[(8,)], []], "the first leaves room for the second"


def test_what_is_wrong_with_a_profile_is_told_before_any_is_deployed() -> None:
    bench = Bench()
    bench.pipeline.error = FlexPieError(ErrorCode.INVALID_SHAPE, "It does not fit.", "Give another.")
    bench.pipeline.good_imports = 1
    with pytest.raises(FlexPieError) as caught:
        _deploy_profiles(bench, StartDeployment("d", PROFILES, ("a",)))
    assert caught.value.code is ErrorCode.INVALID_SHAPE
    assert (caught.value.message, caught.value.remedy) == ("Profile x=8 of cat: It does not fit.", "Give another.")
    assert bench.told == [StageReached("d", "import")]


def test_errors_say_which_profile_they_are_about() -> None:
    bench = Bench()
    bench.links["c"].error = FlexPieError(ErrorCode.OUT_OF_MEMORY, "c is full.")
    with pytest.raises(FlexPieError, match="Profile x=8 of cat: c is full"):
        _deploy_profiles(bench, StartDeployment("d", PROFILES, ("a", "b", "c"), profile=1))


def test_profiles_that_requests_could_not_tell_apart_are_refused() -> None:
    bench = Bench()
    twice = dataclasses.replace(ENTRY, profiles=({"x": (4,)}, {"x": (4,), "z": (1,)}))
    with pytest.raises(FlexPieError) as caught:
        _deploy_profiles(bench, StartDeployment("d", twice, ("a",)))
    assert caught.value.code is ErrorCode.INVALID_SHAPE
    assert caught.value.message == "The profiles x=4 and x=4,z=1 of cat give its inputs the same shapes."


def test_a_long_stage_tells_for_how_long_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "PULSE_SECONDS", 0.01)
    bench = Bench()
    heard = threading.Event()
    bench.pipeline.before_plan = lambda: heard.wait(30)

    def report(event: Event) -> None:
        bench.told.append(event)
        if isinstance(event, StageReached) and event.unit == "seconds" and event.stage == "plan":
            heard.set()

    bench.deployer = dataclasses.replace(bench.deployer, report=report)
    bench.deploy("d")
    assert heard.is_set()
    assert StageReached("d", "plan", 0, 0, "seconds") in bench.told


def test_a_failed_import_is_tried_again() -> None:
    bench = Bench()
    bench.pipeline.error = FlexPieError(ErrorCode.INVALID_MODEL, "It is a picture.")
    with pytest.raises(FlexPieError, match="picture"):
        bench.deploy("d")
    bench.pipeline.error = None
    bench.deploy("e")
    assert bench.pipeline.imports == 2


def test_an_import_survives_the_deployment_that_began_it() -> None:
    bench = Bench()

    async def run() -> None:
        start = StartDeployment("d", ENTRY, ("a", "b", "c"))
        first = asyncio.create_task(bench.deployer.deploy(start, {}))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await bench.deployer.deploy(StartDeployment("e", ENTRY, ("a", "b", "c")), {})

    asyncio.run(run())
    assert bench.pipeline.imports == 1


def test_an_import_that_fails_when_its_deployment_is_abandoned_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.pipeline.error = FlexPieError(ErrorCode.INVALID_MODEL, "No model.")

    async def run() -> None:
        deploying = asyncio.ensure_future(bench.deployer.deploy(StartDeployment("d", ENTRY, ("a", "b", "c")), {}))
        await asyncio.sleep(0)  # it begins to import
        deploying.cancel()
        await asyncio.gather(deploying, return_exceptions=True)
        importing = bench.deployer.imports.pop("cat")
        await asyncio.wait({importing})

    asyncio.run(run())
    gc.collect()
    assert not caplog.records


def test_a_model_with_outputs_that_cannot_be_answered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "DATATYPES", {ElementType.INT8: "INT8"})
    bench = Bench()
    with pytest.raises(FlexPieError, match="x of cat has the element type float32") as caught:
        bench.deploy("d")
    assert caught.value.code is ErrorCode.UNSUPPORTED_MODEL


def test_one_device_that_refuses_fails_the_deployment() -> None:
    bench = Bench()
    bench.links["c"].error = FlexPieError(ErrorCode.OUT_OF_MEMORY, "c is full.")
    with pytest.raises(FlexPieError, match="c is full"):
        bench.deploy("d")


def test_memory_is_what_is_left_of_the_smallest_limit() -> None:
    limits = {"a": 1000, "b": None, "c": 500}
    devices = tuple(Device(name, f"{name}:1", memory_bytes=limit) for name, limit in limits.items())
    start = StartDeployment("d", ENTRY, ("a", "b"), {"a": 100, "b": 5000})
    usable = usable_cluster(Cluster(devices, Link(1e9, 1e-4)), start, {"a": 700, "b": 4000, "c": 0})
    assert [(device.name, device.memory_bytes) for device in usable.devices] == [("a", 600), ("b", 1)]
    free = usable_cluster(CLUSTER, StartDeployment("d", ENTRY, ("a",)), {"a": 0})
    assert [device.memory_bytes for device in free.devices] == [None]


def test_without_the_relay_between_them_the_fastest_devices_that_reach_one_another_serve() -> None:
    devices = tuple(
        Device(name, f"{name}:1", speed) for name, speed in (("a", 1.0), ("b", 2.0), ("c", 1.5), ("d", 1.0))
    )
    apart = [(x, y) for x, y in ("bc", "bd", "cb", "db")]
    cluster = Cluster(devices, Link(1e9, 1e-4), missing=frozenset(apart))
    whole = usable_cluster(cluster, StartDeployment("d", ENTRY, ("a", "b", "c", "d")), {})
    assert whole == cluster
    rest = usable_cluster(cluster, StartDeployment("d", ENTRY, ("b", "c", "d")), {})
    assert [device.name for device in rest.devices] == ["c", "d"]


async def _deploys_once_kept(patch: pytest.MonkeyPatch, seconds: float, *, written: bool) -> bool:
    """Whether a deployment is ready after it was handed to a store that is done at once, or never."""
    patch.setattr(deploying, "KEEP_SECONDS", seconds)
    bench = Bench()
    writing, asked = asyncio.get_running_loop().create_future(), asyncio.Event()

    def keep(*_: object) -> asyncio.Future[None]:
        asked.set()
        return writing

    bench.deployer.keep = keep
    work = asyncio.create_task(bench.deployer.deploy(StartDeployment("d", ENTRY, ("a", "b", "c")), {}))
    await asyncio.wait_for(asked.wait(), 10)
    assert not work.done()
    if written:
        writing.set_result(None)
    await asyncio.wait_for(work, 10)
    return work.result().id == "d"


@pytest.mark.parametrize(("seconds", "written"), [(60.0, True), (0.01, False)], ids=["written", "slow disk"])
def test_what_is_ready_is_on_the_disk_unless_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, written: bool
) -> None:
    assert asyncio.run(_deploys_once_kept(monkeypatch, seconds, written=written))
