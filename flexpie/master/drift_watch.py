"""Watches the deployments that serve: whether they still run as they were planned to, and whether they are worth it."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flexpie.core.cluster import MASTER_NAME
from flexpie.master.deployment import Deployment
from flexpie.master.drift import Drift, DriftMonitor
from flexpie.master.events import DeploymentId, DeviceName
from flexpie.master.sampling import SampleBook
from flexpie.wire.v1 import peer_pb2

SAMPLE_SECONDS = 0.1
"""From one sampled request to the next, at least: the last twelve tell of more than a moment."""
LEAST_ASSESS_SECONDS = 2.0
ASSESS_SECONDS = 5.0
LONGEST_ASSESS_SECONDS = 80.0
"""From one look for a better plan to the next, of one deployment: a search takes the master's processor. The least
where something else has drifted since, or the same by much more; else longer, and twice as long each time."""
SETTLE_SAMPLES = 3
"""Something else is told when so many samples have: the first ones that do are a mixture of before and now."""
LATENCIES = 12
"""Of requests that had the cluster to themselves: what a plan really takes is known after so many."""
WORTH_FACTOR = 1.2
"""A divided plan that takes so many times as long as one device alone would is given up."""
MOST_REMEMBERED = 16
"""Ended deployments whose first requests are remembered."""


class DriftListener(Protocol):
    """Decides what is to be done."""

    def drifted(self, deployment: DeploymentId, drift: Drift, factor: float | None) -> None:
        """Devices or links are not as fast as they were when the deployment was new. Requests take `factor` times as
        long as they did then; None where that is not known."""

    def too_slow(self, deployment: DeploymentId, seconds: float, alone_seconds: float) -> None:
        """Requests take longer than the fastest device alone would, as far as can be told."""

    def slower_alone(self, deployment: DeploymentId, seconds: float, divided_seconds: float) -> None:
        """Requests take longer on one device than they did when it was given up to divide them."""


@dataclass(frozen=True)
class Expectation:
    """What a plan was predicted to take."""

    compute_seconds: Mapping[DeviceName, float]
    """Of each device that takes part, for a request."""
    alone_seconds: float | None
    """Of the fastest device alone; None where the plan is just that, or the model does not fit it, or it was tried."""
    divided_seconds: float | None = None
    """What requests took with the divided plan that was given up for this one; None where none was."""
    calibrated: bool = False
    """Whether it was predicted from what devices compute without a pause. Between messages they are faster."""
    basis: object = None
    """What was planned, for which cluster: where both are those of an earlier deployment, its first requests say how
    things were when the plan was new. None where that is not to be remembered."""


class _Latencies:
    """Of requests that had the cluster to themselves, in seconds."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=LATENCIES)
        self._others = 0
        """Requests that had not, since the last one that had."""

    def add(self, seconds: float, *, alone: bool) -> None:
        """Take in a request; what those before it took says little behind many that were not alone."""
        self._others = 0 if alone else self._others + 1
        if self._others > LATENCIES:
            self._last.clear()
        elif alone:
            if len(self._first) < LATENCIES:
                self._first.append(seconds)
            self._last.append(seconds)

    @property
    def now(self) -> float | None:
        """What requests take; None while that is not known."""
        return statistics.median(self._last) if len(self._last) == LATENCIES else None

    @property
    def factor(self) -> float | None:
        """How many times as long they take as the first ones did."""
        return None if self.now is None else self.now / max(statistics.median(self._first), 1e-6)

    def begin_again(self) -> None:
        """Forget all but the first ones."""
        self._last.clear()


@dataclass
class _Watched:
    monitor: DriftMonitor = field(default_factory=DriftMonitor)
    expectation: Expectation | None = None
    latencies: _Latencies = field(default_factory=_Latencies)
    assessed: Drift = field(default_factory=Drift)
    """What was told last."""
    assess_at: float = 0.0
    """When it is told again, even if it is the same."""
    other_at: float = 0.0
    """When something else is told."""
    news: int = 0
    """So many samples in a row have told something else."""
    pause_seconds: float = ASSESS_SECONDS


class DriftWatch:
    """The samples of all deployments, and what follows from them. Times are of one clock, in seconds."""

    def __init__(self, listener: DriftListener, clock: Callable[[], float], busy: Callable[[], bool]) -> None:
        """`busy` tells whether workers are building: requests take longer meanwhile, and nothing follows from that."""
        self._listener = listener
        self._busy = busy
        self._clock = clock
        self._book = SampleBook()
        self._watched: dict[DeploymentId, _Watched] = {}
        self._ended: deque[_Watched] = deque(maxlen=MOST_REMEMBERED)
        self._sampled_at = -SAMPLE_SECONDS

    def wants_sample(self) -> bool:
        """Whether the run that begins now is to be sampled."""
        now = self._clock()
        if now - self._sampled_at < SAMPLE_SECONDS or self._busy():
            return False
        self._sampled_at = now
        return True

    def expect(self, deployment: DeploymentId, expectation: Expectation) -> None:
        """What a deployment's plan was predicted to take; told before its first request, or of one that is watched."""
        watched = self._watched.get(deployment) or self._remembered(expectation) or _Watched()
        watched.expectation = expectation
        self._watched[deployment] = watched

    def begin(self, deployment: Deployment, run: int) -> None:
        """A sampled run begins."""
        self._watched.setdefault(deployment.id, _Watched())
        self._book.begin(deployment.id, run, deployment.devices, set(deployment.names))

    def finished(self, part: peer_pb2.RequestSample, seconds: float, *, alone: bool) -> None:
        """A sampled run was answered after so many seconds; `alone` if no other request was in flight meanwhile."""
        watched = self._watched.get(part.deployment_id)
        if watched is not None:
            watched.latencies.add(seconds, alone=alone)
        self.tell(MASTER_NAME, part)

    def tell(self, teller: DeviceName, part: peer_pb2.RequestSample) -> None:
        """A device tells its part of a sampled run."""
        sample = self._book.tell(teller, part)
        watched = self._watched.get(part.deployment_id)
        if sample is None or watched is None:  # it is not complete, or its deployment has ended
            return
        watched.monitor.observe(sample)
        now = self._clock()
        if now < watched.other_at:
            return
        expected = watched.expectation
        drift = watched.monitor.drift(expected.compute_seconds if expected is not None else {})
        watched.news = watched.news + 1 if drift.is_more_than(watched.assessed) else 0
        if watched.news < SETTLE_SAMPLES and (watched.news or now < watched.assess_at):
            return
        if drift:
            self._pause(watched, drift, now)
            self._listener.drifted(part.deployment_id, drift, watched.latencies.factor)
        elif (measured := watched.latencies.now) is not None and expected is not None:
            divided = expected.divided_seconds
            if divided is not None and measured > divided:
                self._pause(watched, drift, now)
                self._listener.slower_alone(part.deployment_id, measured, divided)
            elif (alone := self._alone_seconds(watched)) is not None and measured > WORTH_FACTOR * alone:
                self._pause(watched, drift, now)
                self._listener.too_slow(part.deployment_id, measured, alone)

    def forget(self, deployment: DeploymentId) -> None:
        """A deployment has ended."""
        watched = self._watched.pop(deployment, None)
        if watched is not None and watched.expectation is not None and watched.expectation.basis is not None:
            self._ended.append(watched)

    def _remembered(self, expectation: Expectation) -> _Watched | None:
        """What is known of how things were with the same plan for the same cluster."""
        if expectation.basis is None:
            return None
        for watched in self._ended:
            if watched.expectation is not None and watched.expectation.basis == expectation.basis:
                self._ended.remove(watched)
                watched.monitor.begin_again()
                watched.latencies.begin_again()
                return _Watched(watched.monitor, latencies=watched.latencies)
        return None

    def _pause(self, watched: _Watched, drift: Drift, now: float) -> None:
        if drift.is_more_than(watched.assessed):
            watched.pause_seconds = ASSESS_SECONDS
        watched.assessed, watched.other_at, watched.news = drift, now + LEAST_ASSESS_SECONDS, 0
        watched.assess_at = now + watched.pause_seconds
        watched.pause_seconds = min(2 * watched.pause_seconds, LONGEST_ASSESS_SECONDS)

    def _alone_seconds(self, watched: _Watched) -> float | None:
        """What the fastest device alone would take, if its prediction is wrong by as much as those of the devices that
        compute now; None if not enough is known. One that rests between messages is faster than it would be alone: a
        prediction from calibration is not made shorter."""
        expected = watched.expectation
        if expected is None or expected.alone_seconds is None:
            return None
        ratios = []
        for device, predicted in expected.compute_seconds.items():
            measured = watched.monitor.compute_seconds(device)
            if measured is None or predicted <= 0:
                return None
            ratios.append(measured / predicted)
        if not ratios:
            return None
        ratio = statistics.median(ratios)
        return expected.alone_seconds * (max(1.0, ratio) if expected.calibrated else ratio)
