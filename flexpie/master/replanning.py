"""What is done about drift: another plan where that is worth the switch, one device where dividing does not pay."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flexpie.core.cluster import Cluster
from flexpie.core.errors import FlexPieError
from flexpie.core.plan import Objective
from flexpie.core.turns import turns
from flexpie.master.deploying import Deployer
from flexpie.master.drift import Drift
from flexpie.master.drift_watch import Expectation
from flexpie.master.estimates import adjusted
from flexpie.master.events import DeploymentId, DeviceName, Event, ModelName, PlanOutdated, ReplanWanted
from flexpie.master.instructions import StartDeployment
from flexpie.master.planned import Planned, usable_cluster

if TYPE_CHECKING:
    from flexpie.planner.planning import PlanningResult

LEAST_DIFFERENCE = 0.99
"""A plan that is predicted to take more than so much of the present one's time is the same one, or as good as it."""
LOG_SECONDS = 60.0
"""From one time to the next that the log says a deployment's plan is kept."""

_Choice = tuple[ModelName, int, frozenset[DeviceName]]
"""Between dividing and one device: of a model's profile, over these devices."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Comparison:
    """Plans, as they are predicted for the cluster as it is now."""

    present: PlanningResult
    best: PlanningResult
    standby: Planned | None
    """The best of those that are ready."""
    standby_file: str = ""
    """The text of its plan."""


class Replanner:
    """Listens to a `flexpie.master.drift_watch.DriftWatch`."""

    def __init__(
        self,
        deployer: Deployer,
        memory: Mapping[DeviceName, int],
        least_gain: float,
        tell: Callable[[Event], object],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """A new plan must be better by `least_gain` of what the present one takes, as far as can be told. `memory` is
        what workers say they have; `tell` takes events to the state, `spawn` runs work in the background."""
        self._deployer = deployer
        self._memory = memory
        self._least_gain = least_gain
        self._tell = tell
        self._spawn = spawn
        self._assessing = False
        self._given_up: dict[_Choice, float] = {}
        """Seconds that requests took with the divided plan for which one device was taken."""
        self._tried: set[_Choice] = set()
        """Where one device turned out to be slower."""
        self._said: dict[DeploymentId, float] = {}
        """When the log said last that a plan is kept."""

    def expectation(self, planned: Planned) -> Expectation:
        """What a plan was predicted to take, and what is known of the choice between dividing and one device."""
        start = planned.start
        expected, choice = expectation_of(planned), _choice(start)
        if choice in self._tried:
            return dataclasses.replace(expected, alone_seconds=None)
        return dataclasses.replace(expected, divided_seconds=self._given_up.get(choice) if start.only else None)

    async def recall(self, start: StartDeployment) -> Expectation | None:
        """Read the plan of a deployment that an earlier run made, so that another one can be compared with it; returns
        what it is predicted to take, None where that cannot be told."""
        saved = self._deployer.resumed.get(start.deployment)
        if saved is None or not saved.plan_file:
            return None
        start = dataclasses.replace(start, devices=saved.planned_over)
        try:
            models = await self._deployer.read(start.entry)
            planned = await asyncio.to_thread(self._read_plan, start, saved.plan_file, models)
        except FlexPieError as error:
            what = "the plan of an earlier run is not watched"
            _log.warning("%s model=%s deployment=%s: %s", what, start.entry.name, start.deployment, error)
            return None
        if self._deployer.resumed.pop(start.deployment, None) is None:
            return None  # it has ended meanwhile
        self._deployer.planned[start.deployment] = planned
        _log.info("plan read again model=%s deployment=%s: it is watched for drift", start.entry.name, start.deployment)
        return self.expectation(planned)

    def _read_plan(self, start: StartDeployment, text: str, models: Sequence[Any]) -> Planned:
        pipeline, model = self._deployer.pipeline, models[start.profile]
        cluster = usable_cluster(self._deployer.cluster, start, self._memory)
        return Planned(start, pipeline.predict_plan(model, cluster, pipeline.read_plan(text, model, cluster)), cluster)

    def drifted(self, deployment: DeploymentId, drift: Drift, factor: float | None) -> None:
        """See `flexpie.master.drift_watch.DriftListener`."""
        planned = self._deployer.planned.get(deployment)
        if planned is not None and _is_free(planned) and not self._assessing:
            self._assessing = True
            self._spawn(self._assess(deployment, planned, drift, factor))

    def too_slow(self, deployment: DeploymentId, seconds: float, alone_seconds: float) -> None:
        """See `flexpie.master.drift_watch.DriftListener`."""
        planned = self._deployer.planned.get(deployment)
        if planned is None:
            return
        plan = planned.result.single_device
        device = plan.devices[plan.participants[0]]
        remark = (
            f"one device instead of {len(planned.result.plan.participants)}: requests took {seconds * 1000:.3g} ms, "
            f"and {device} alone takes about {alone_seconds * 1000:.3g} ms"
        )
        _log.warning("dividing does not pay model=%s deployment=%s: %s", planned.start.entry.name, deployment, remark)
        self._given_up[_choice(planned.start)] = seconds
        self._tell(ReplanWanted(deployment, device, remark))

    def slower_alone(self, deployment: DeploymentId, seconds: float, divided_seconds: float) -> None:
        """See `flexpie.master.drift_watch.DriftListener`."""
        planned = self._deployer.planned.get(deployment)
        if planned is None:
            return
        self._tried.add(_choice(planned.start))
        remark = (
            f"divided again: requests took {seconds * 1000:.3g} ms on one device, "
            f"and {divided_seconds * 1000:.3g} ms before that"
        )
        _log.warning("one device does not pay model=%s deployment=%s: %s",
                     planned.start.entry.name, deployment, remark)  # fmt: skip
        self._tell(ReplanWanted(deployment, remark=remark))

    async def _assess(self, deployment: DeploymentId, planned: Planned, drift: Drift, factor: float | None) -> None:
        """Look for a better plan, and ask for it if it is worth the switch."""
        name, described = planned.start.entry.name, _described(drift, factor)
        estimate = adjusted(self._deployer.cluster, drift, planned.cluster)
        try:
            reading = self._deployer.imports.get(name)
            if reading is None:
                return  # it has just been unloaded
            found = await asyncio.to_thread(self._compare, planned, estimate, await asyncio.shield(reading))
        except FlexPieError as error:
            _log.warning("no plan for the cluster as it is now model=%s: %s", name, error)
            return
        finally:
            self._assessing = False
        aim = planned.start.entry.objective
        gain = _gain(aim, planned.result, found.present, found.best, factor)
        if gain < self._least_gain:
            level = logging.INFO if self._is_news(deployment) else logging.DEBUG
            _log.log(level, "plan kept model=%s deployment=%s: %s; another one would gain %.0f %%",
                     name, deployment, described, max(0.0, gain) * 100)  # fmt: skip
            return
        self._deployer.cluster = estimate
        _log.warning("planned anew model=%s deployment=%s: %s; gain %.0f %%",
                     name, deployment, described, gain * 100)  # fmt: skip
        standby = found.standby
        if (
            standby is None
            or (identity := standby.start.deployment) not in self._deployer.standbys  # it has just ended
            or _gain(aim, planned.result, found.present, standby.result, factor) < self._least_gain
        ):
            self._tell(PlanOutdated(deployment))
            return
        suffices = _gain(aim, standby.result, standby.result, found.best) < self._least_gain
        self._deployer.planned[identity] = standby
        if suffices:
            self._deployer.planned_over(identity, standby, found.standby_file)
        self._tell(PlanOutdated(deployment, identity, suffices))

    def _is_news(self, deployment: DeploymentId) -> bool:
        """Whether a minute has passed since the log said that a plan is kept."""
        now = time.monotonic()
        self._said = {name: at for name, at in self._said.items() if now - at < LOG_SECONDS}
        return self._said.setdefault(deployment, now) == now

    def _compare(self, planned: Planned, estimate: Cluster, models: Any) -> _Comparison:
        """What the present plan is predicted to take now, the best one, and what is ready to serve instead."""
        start, entry, pipeline = planned.start, planned.start.entry, self._deployer.pipeline
        model = models[start.profile]
        present = self._predicted_anew(planned, estimate, model)
        assert present is not None, "a deployment that serves has all its devices"
        best = pipeline.plan_model(model, present.cluster, entry.scheme, entry.objective, boundary=entry.boundary)
        standbys = [
            self._deployer.planned[identity]
            for identity, (standby, _) in list(self._deployer.standbys.items())
            if identity in self._deployer.planned and (standby.entry, standby.profile) == (entry, start.profile)
        ]
        usable = []
        for item in standbys:
            with contextlib.suppress(FlexPieError):  # it is no choice then
                # Devices that it does without are there too: it may be compared with plans that use them later on.
                item = dataclasses.replace(item, start=dataclasses.replace(item.start, devices=start.devices))
                usable.append(self._predicted_anew(item, estimate, model))
        standby = min(filter(None, usable), key=lambda item: _seconds(item.result, entry.objective), default=None)
        text = "" if standby is None else pipeline.write_plan(model, standby.cluster, standby.result.plan)
        return _Comparison(present.result, best, standby, text)

    def _predicted_anew(self, planned: Planned, estimate: Cluster, model: Any) -> Planned | None:
        """The same plan for the cluster as it is now; None if it needs what cannot be used."""
        cluster = usable_cluster(estimate, planned.start, self._memory)
        plan = planned.result.plan.on([device.name for device in cluster.devices])
        if plan is None:
            return None
        return Planned(planned.start, self._deployer.pipeline.predict_plan(model, cluster, plan), cluster)


def expectation_of(planned: Planned) -> Expectation:
    """What a plan was predicted to take, and one device instead."""
    result, start, cluster = planned.result, planned.start, planned.cluster
    plan = result.plan
    seconds = {
        plan.devices[index]: sum(cost.compute_seconds[index] for cost in plan.costs) for index in plan.participants
    }
    for_latency = start.entry.objective == Objective.LATENCY.value and not turns(plan.segments)
    divided = for_latency and len(plan.participants) > 1 and result.single_device_fits
    speeds = tuple((device.name, device.rates) for device in cluster.devices)
    return Expectation(
        seconds,
        result.single_device_seconds if divided else None,
        calibrated=all(device.measured is not None for device in cluster.devices),
        basis=(plan.graph_digest, start.profile, plan.segments, plan.boundary, speeds, cluster.link, cluster.links),
    )


def _choice(start: StartDeployment) -> _Choice:
    return start.entry.name, start.profile, frozenset(start.devices)


def _is_free(planned: Planned) -> bool:
    """Whether the planner chooses the plan, and not the user."""
    return not planned.start.entry.plan and not planned.start.only and len(planned.start.devices) > 1


def _gain(
    aim: str, before: PlanningResult, now: PlanningResult, best: PlanningResult, factor: float | None = None
) -> float:
    """What part of the present plan's time the best one would save; 0 where the best one is predicted to be no better.

    Requests take `factor` times as long with the present plan as when it was new: that tells what the drift does to it
    better than a prediction (`now`), and their error then (of `before`) is that of the best one's prediction too.
    """
    if aim == Objective.THROUGHPUT.value:
        return 1 - _seconds(best, aim) / _seconds(now, aim)
    if best.latency_seconds >= LEAST_DIFFERENCE * now.latency_seconds:
        return 0.0
    seconds = now.latency_seconds if factor is None else factor * before.latency_seconds
    return 1 - best.latency_seconds / seconds if seconds > 0 else 0.0


def _seconds(result: PlanningResult, aim: str) -> float:
    """What is to be small: the time of a request, or from one to the next with many in flight."""
    if aim == Objective.THROUGHPUT.value:
        return 1 / result.occupation.requests_per_second
    return result.latency_seconds


def _described(drift: Drift, factor: float | None) -> str:
    parts = [] if factor is None else [f"requests take {factor:.2f} times as long"]
    parts += [f"{device} computes {slower:.2f} times as long" for device, slower in sorted(drift.slowdowns.items())]
    for pair, extra in drift.extra_seconds_per_byte.items():
        ends = " and ".join(name or "the master" for name in sorted(pair))
        parts.append(f"a megabyte between {ends} takes {extra * 1e9:+.1f} ms")
    for port, extra in drift.ports.items():
        parts.append(f"a megabyte from or to {port or 'the master'} takes {extra * 1e9:+.1f} ms")
    return ", ".join(parts)
