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

SAMPLE_SECONDS = 0.15
"""From one sampled request to the next, at least: the last fifteen tell of more than a moment."""
LEAST_ASSESS_SECONDS = 2.0
ASSESS_SECONDS = 5.0
LONGEST_ASSESS_SECONDS = 80.0
"""From one look for a better plan to the next, of one deployment: a search takes the master's processor. The least
where something else has drifted since, or the same by much more; else longer, and twice as long each time."""
LATENCIES = 15
"""Of requests that had the cluster to themselves: what a plan really takes is known after so many."""
WORTH_FACTOR = 1.2
"""A divided plan that takes so many times as long as one device alone would is given up."""


class DriftListener(Protocol):
    """Decides what is to be done."""

    def drifted(self, deployment: DeploymentId, drift: Drift) -> None:
        """Devices or links are not as fast as they were when the deployment was new."""

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


@dataclass
class _Watched:
    monitor: DriftMonitor = field(default_factory=DriftMonitor)
    expectation: Expectation | None = None
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    assessed: Drift = field(default_factory=Drift)
    """What was told last."""
    assess_at: float = 0.0
    """When it is told again, even if it is the same."""
    other_at: float = 0.0
    """When something else is told."""
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
        self._sampled_at = -SAMPLE_SECONDS

    def wants_sample(self) -> bool:
        """Whether the run that begins now is to be sampled."""
        now = self._clock()
        if now - self._sampled_at < SAMPLE_SECONDS or self._busy():
            return False
        self._sampled_at = now
        return True

    def expect(self, deployment: DeploymentId, expectation: Expectation) -> None:
        """What a deployment's plan was predicted to take."""
        self._watched.setdefault(deployment, _Watched()).expectation = expectation

    def begin(self, deployment: Deployment, run: int) -> None:
        """A sampled run begins."""
        self._watched.setdefault(deployment.id, _Watched())
        needed = {deployment.devices[index] for index in deployment.participants}
        self._book.begin(deployment.id, run, deployment.devices, needed)

    def finished(self, part: peer_pb2.RequestSample, seconds: float, *, alone: bool) -> None:
        """A sampled run was answered after so many seconds; `alone` if no other request was in flight meanwhile."""
        watched = self._watched.get(part.deployment_id)
        if watched is not None and alone:
            watched.latencies.append(seconds)
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
        drift = watched.monitor.drift()
        if now < watched.assess_at and not drift.is_more_than(watched.assessed):
            return
        if drift:
            self._pause(watched, drift, now)
            self._listener.drifted(part.deployment_id, drift)
        elif len(watched.latencies) == LATENCIES and watched.expectation is not None:
            measured, divided = statistics.median(watched.latencies), watched.expectation.divided_seconds
            if divided is not None and measured > divided:
                self._pause(watched, drift, now)
                self._listener.slower_alone(part.deployment_id, measured, divided)
            elif (alone := self._alone_seconds(watched)) is not None and measured > WORTH_FACTOR * alone:
                self._pause(watched, drift, now)
                self._listener.too_slow(part.deployment_id, measured, alone)

    def forget(self, deployment: DeploymentId) -> None:
        """A deployment has ended."""
        self._watched.pop(deployment, None)

    def _pause(self, watched: _Watched, drift: Drift, now: float) -> None:
        if drift.is_more_than(watched.assessed):
            watched.pause_seconds = ASSESS_SECONDS
        watched.assessed, watched.other_at = drift, now + LEAST_ASSESS_SECONDS
        watched.assess_at = now + watched.pause_seconds
        watched.pause_seconds = min(2 * watched.pause_seconds, LONGEST_ASSESS_SECONDS)

    def _alone_seconds(self, watched: _Watched) -> float | None:
        """What the fastest device alone would take, if its prediction is wrong by as much as those of the devices that
        compute now; None if not enough is known."""
        expected = watched.expectation
        if expected is None or expected.alone_seconds is None:
            return None
        ratios = []
        for device, predicted in expected.compute_seconds.items():
            measured = watched.monitor.compute_seconds(device)
            if measured is None or predicted <= 0:
                return None
            ratios.append(measured / predicted)
        return expected.alone_seconds * statistics.median(ratios) if ratios else None
