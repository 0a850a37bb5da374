"""Another plan is asked for where it is worth the switch; one device where dividing does not pay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Objective, Plan, Segment, SegmentCost
from flexpie.core.scheme import DATA_PARALLEL, single
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.deploying import Deployer
from flexpie.master.drift import Drift
from flexpie.master.drift_watch import Expectation
from flexpie.master.estimates import adjusted
from flexpie.master.events import Event, PlanOutdated, ReplanWanted
from flexpie.master.instructions import StartDeployment
from flexpie.master.planned import Planned
from flexpie.master.replanning import Replanner, expectation_of
from tests.unit.master.story import CAT

CLUSTER = Cluster((Device("a", "a:1"), Device("b", "b:1")), Link(1e8, 1e-4))
PLAN = Plan("cat", ("a", "b"), (Segment(0, 1, single(0), (1.0, 0.0)), Segment(1, 2, single(1), (0.0, 1.0))))
ALONE = Plan("cat", ("a", "b"), (Segment(0, 2, single(1), (0.0, 1.0)),))
SLOW_B = Drift({"b": 4.0})


class Pipeline:
    """Predicts what a test says."""

    def __init__(self, now: float, best: float, standby: float = 0.0) -> None:
        """`standby` is what `ALONE` takes."""
        self.now, self.best, self.standby = now, best, standby
        self.clusters: list[Cluster] = []

    def predict_plan(self, model: Any, cluster: Cluster, plan: Plan) -> Any:
        assert plan.devices == ("a", "b")
        costs = (SegmentCost((0.5, 0.0), 0.1, 1), SegmentCost((0.0, 0.25), 0.1, 1))
        now = self.standby if self.standby and len(plan.segments) == 1 else self.now
        return SimpleNamespace(latency_seconds=now, objective=Objective.LATENCY, plan=replace(plan, costs=costs),
                               single_device=ALONE, single_device_fits=True, single_device_seconds=2.0)  # fmt: skip

    def read_plan(self, text: str, model: Any, cluster: Cluster) -> Plan:
        if text != "plan":
            raise FlexPieError(ErrorCode.INVALID_PLAN, "This is no plan.")
        assert [device.name for device in cluster.devices] == ["a", "b"]
        return PLAN

    def write_plan(self, model: Any, cluster: Cluster, plan: Plan) -> str:
        return " ".join(plan.devices)

    def plan_model(self, model: Any, cluster: Cluster, scheme: str, objective: str, boundary: Boundary) -> Any:
        self.clusters.append(cluster)
        return SimpleNamespace(latency_seconds=self.best, objective=Objective.LATENCY)


class Deployers(SimpleNamespace):
    """Stands for a `Deployer`."""

    async def read(self, entry: ModelEntry) -> Any:
        return (object(),)

    def planned_over(self, deployment: str, planned: Planned, plan_file: str) -> None:
        self.standbys[deployment] = planned.start.devices, plan_file


def _run(pipeline: Pipeline, scenario: Callable[[Replanner], None]) -> tuple[list[Event], Cluster]:
    """What a replanner tells, and what it believes of the cluster, after a scenario."""

    async def run() -> tuple[list[Event], Cluster]:
        told: list[Event] = []
        tasks: list[asyncio.Task[None]] = []
        imported = asyncio.get_running_loop().create_future()
        imported.set_result((object(),))
        start = StartDeployment("d-1", CAT, ("a", "b"))
        result = SimpleNamespace(plan=PLAN, single_device=ALONE, latency_seconds=0.5)
        deployer = Deployers(
            pipeline=pipeline,
            cluster=CLUSTER,
            imports={"cat": imported},
            planned={"d-1": Planned(start, cast(Any, result), CLUSTER)},
            standbys={},
        )
        if pipeline.standby:
            standby = StartDeployment("d-2", CAT, ("b",), standby=True)
            deployer.planned["d-2"] = Planned(standby, cast(Any, SimpleNamespace(plan=ALONE)), CLUSTER)
            deployer.standbys["d-2"] = standby, None
        replanner = Replanner(
            cast(Deployer, deployer), {}, 0.15, told.append, lambda work: tasks.append(asyncio.create_task(work))
        )
        scenario(replanner)
        await asyncio.gather(*tasks)
        return told, deployer.cluster

    return asyncio.run(run())


def test_a_plan_that_is_much_better_is_asked_for_and_the_cluster_is_believed_to_be_so() -> None:
    pipeline = Pipeline(now=1.0, best=0.8)
    told, cluster = _run(pipeline, lambda replanner: replanner.drifted("d-1", SLOW_B, None))
    assert told == [PlanOutdated("d-1")]
    assert [device.speed for device in cluster.devices] == [1.0, 0.25]
    assert [device.speed for device in pipeline.clusters[0].devices] == [1.0, 0.25]


def test_a_plan_that_is_little_better_is_not_worth_the_switch() -> None:
    told, cluster = _run(Pipeline(now=1.0, best=0.9), lambda replanner: replanner.drifted("d-1", SLOW_B, None))
    assert told == []
    assert cluster == CLUSTER


@pytest.mark.parametrize(
    ("now", "factor", "asked"),
    [
        (1.0, 2.5, True),  # predicted to gain a tenth; but requests take 1.25 s instead of 0.5
        (1.0, 1.0, False),  # requests take no longer than they did
        (0.9, 2.5, False),  # the best plan is the present one
    ],
)
def test_what_requests_take_tells_what_a_plan_would_gain(now: float, factor: float, asked: bool) -> None:
    pipeline = Pipeline(now, best=0.9)
    told, _ = _run(pipeline, lambda replanner: replanner.drifted("d-1", SLOW_B, factor))
    assert told == ([PlanOutdated("d-1")] if asked else [])


@pytest.mark.parametrize(
    ("standby", "told"),
    [
        (0.5, PlanOutdated("d-1", "d-2", standby_suffices=True)),
        (0.7, PlanOutdated("d-1", "d-2")),  # better than what serves; another plan is better still
        (0.9, PlanOutdated("d-1")),  # not worth the switch
        (2.0, PlanOutdated("d-1")),
    ],
)
def test_a_standby_that_is_better_serves_until_the_best_plan_is_ready(standby: float, told: PlanOutdated) -> None:
    pipeline, deployers = Pipeline(now=1.0, best=0.5, standby=standby), []

    def scenario(replanner: Replanner) -> None:
        deployers.append(cast(Any, replanner)._deployer)
        replanner.drifted("d-1", SLOW_B, None)

    assert _run(pipeline, scenario)[0] == [told]
    if told.standby:  # other devices are there too, and may be of use later on
        assert deployers[0].planned["d-2"].start.devices == ("a", "b")
    if told.standby_suffices:
        assert deployers[0].standbys["d-2"] == (("a", "b"), "a b"), "a restarted master knows it too"


def test_a_standby_that_ended_meanwhile_is_forgotten() -> None:
    deployers: list[Any] = []

    class Ending(Pipeline):
        def write_plan(self, model: Any, cluster: Cluster, plan: Plan) -> str:
            deployers[0].standbys.clear()
            deployers[0].planned.pop("d-2")
            return ""

    def scenario(replanner: Replanner) -> None:
        deployers.append(cast(Any, replanner)._deployer)
        replanner.drifted("d-1", SLOW_B, None)

    assert _run(Ending(now=1.0, best=0.5, standby=0.5), scenario)[0] == [PlanOutdated("d-1")]
    assert "d-2" not in deployers[0].planned


def test_devices_that_take_turns_are_not_given_up_for_one() -> None:
    turns = Plan("cat", ("a", "b"), (Segment(0, 2, DATA_PARALLEL, (1.0, 1.0)),))
    result = cast(Any, Pipeline(1.0, 1.0).predict_plan(None, CLUSTER, turns))
    planned = Planned(StartDeployment("d-1", CAT, ("a", "b")), result, CLUSTER)
    assert expectation_of(planned).alone_seconds is None


def test_plans_for_many_requests_are_not_given_up_for_one_device() -> None:
    entry = replace(CAT, objective="throughput")
    result = cast(Any, Pipeline(1.0, 1.0).predict_plan(None, CLUSTER, PLAN))
    assert expectation_of(Planned(StartDeployment("d-1", entry, ("a", "b")), result, CLUSTER)).alone_seconds is None


def test_drift_is_what_differs_from_the_cluster_that_was_planned_for() -> None:
    """Another model's plan has shown the same drift, and the cluster is believed to be so already."""

    def scenario(replanner: Replanner) -> None:
        cast(Any, replanner)._deployer.cluster = adjusted(CLUSTER, SLOW_B)
        replanner.drifted("d-1", SLOW_B, None)

    _, cluster = _run(Pipeline(now=1.0, best=0.5), scenario)
    assert cluster == adjusted(CLUSTER, SLOW_B)


def test_the_log_says_once_a_minute_that_a_plan_is_kept() -> None:
    def scenario(replanner: Replanner) -> None:
        assert [cast(Any, replanner)._is_news(name) for name in ("d-1", "d-2", "d-1")] == [True, True, False]

    _run(Pipeline(1.0, 1.0), scenario)


def test_one_search_at_a_time_and_none_for_what_was_planned_by_others() -> None:
    def scenario(replanner: Replanner) -> None:
        for deployment in ("d-1", "d-1", "of an earlier run"):
            replanner.drifted(deployment, SLOW_B, None)

    pipeline = Pipeline(now=1.0, best=0.5)
    told, _ = _run(pipeline, scenario)
    assert told == [PlanOutdated("d-1")]
    assert len(pipeline.clusters) == 1


def test_one_device_is_asked_for_with_the_reason() -> None:
    (told,), _ = _run(Pipeline(1.0, 1.0), lambda replanner: replanner.too_slow("d-1", 0.25, 0.1))
    assert isinstance(told, ReplanWanted)
    assert told.only == "b"
    assert told.remark == "one device instead of 2: requests took 250 ms, and b alone takes about 100 ms"


@pytest.mark.parametrize("fits", [True, False])
def test_what_is_expected_of_a_plan(fits: bool) -> None:
    costs = (SimpleNamespace(compute_seconds=(0.5, 0.0)), SimpleNamespace(compute_seconds=(0.0, 0.25)))
    plan = replace(PLAN, costs=cast(Any, costs))
    result = SimpleNamespace(plan=plan, objective=Objective.LATENCY, single_device_fits=fits, single_device_seconds=0.9)
    start = StartDeployment("d-1", CAT, ("a", "b"))
    expectation = expectation_of(Planned(start, cast(Any, result), CLUSTER))
    assert expectation.compute_seconds == {"a": 0.5, "b": 0.25}
    assert expectation.alone_seconds == (0.9 if fits else None)
    assert not expectation.calibrated
    measured = replace(CLUSTER, devices=tuple(replace(item, measured=item.rates) for item in CLUSTER.devices))
    assert expectation_of(Planned(start, cast(Any, result), measured)).calibrated
    slower = replace(CLUSTER, devices=(CLUSTER.devices[0], replace(CLUSTER.devices[1], speed=0.5)))
    assert expectation_of(Planned(start, cast(Any, result), slower)).basis != expectation.basis
    smaller = replace(CLUSTER, devices=tuple(replace(item, memory_bytes=1) for item in CLUSTER.devices))
    assert expectation_of(Planned(start, cast(Any, result), smaller)) == expectation


@pytest.mark.parametrize("text", ["plan", "another", ""])
def test_a_plan_of_an_earlier_run_is_watched_like_any_other_if_it_can_be_read(text: str) -> None:
    start = StartDeployment("d-2", CAT, ("a", "b", "c"))
    saved = SimpleNamespace(plan_file=text, planned_over=("a", "b"))

    async def run() -> tuple[Any, Any, list[Event]]:
        told: list[Event] = []
        tasks: list[asyncio.Task[None]] = []
        imported = asyncio.get_running_loop().create_future()
        imported.set_result((object(),))
        deployer = Deployers(pipeline=Pipeline(now=1.0, best=0.5), cluster=CLUSTER, imports={"cat": imported},
                             planned={}, resumed={"d-2": saved}, standbys={})  # fmt: skip
        replanner = Replanner(
            cast(Deployer, deployer), {}, 0.15, told.append, lambda work: tasks.append(asyncio.create_task(work))
        )
        expectation = await replanner.recall(start)
        replanner.drifted("d-2", SLOW_B, None)
        await asyncio.gather(*tasks)
        deployer.resumed.clear()
        assert await replanner.recall(start) is None, "it has ended"
        return expectation, deployer.planned, told

    expectation, planned, told = asyncio.run(run())
    if text == "plan":
        assert (expectation.compute_seconds, expectation.alone_seconds) == ({"a": 0.5, "b": 0.25}, 2.0)
        assert planned["d-2"].start.devices == ("a", "b")
        assert told == [PlanOutdated("d-2")]
    else:
        assert (expectation, planned, told) == (None, {}, [])


def test_what_turned_out_to_be_slower_alone_is_divided_again_and_for_good() -> None:
    divided = StartDeployment("d-1", CAT, ("a", "b"))
    alone = replace(divided, deployment="d-2", only="b")
    expected: list[Expectation] = []

    def scenario(replanner: Replanner) -> None:
        planned = cast(Any, replanner)._deployer.planned
        result = cast(Any, Pipeline(1.0, 1.0).predict_plan(None, CLUSTER, PLAN))
        expected.append(replanner.expectation(Planned(divided, result, CLUSTER)))
        replanner.too_slow("d-1", 0.25, 0.1)
        planned["d-2"] = Planned(alone, result, CLUSTER)
        expected.append(replanner.expectation(planned["d-2"]))
        replanner.slower_alone("d-2", 0.3, 0.25)
        expected.append(replanner.expectation(Planned(divided, result, CLUSTER)))
        more = replace(divided, devices=("a", "b", "c"))
        expected.append(replanner.expectation(Planned(more, result, CLUSTER)))

    told, _ = _run(Pipeline(1.0, 1.0), scenario)
    assert told[-1] == ReplanWanted(
        "d-2", remark="divided again: requests took 300 ms on one device, and 250 ms before that"
    )
    found = [(item.alone_seconds, item.divided_seconds) for item in expected]
    assert found == [(2.0, None), (2.0, 0.25), (None, None), (2.0, None)]
