"""Requests on their way: from a client's arrays to frames for the workers and back."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.deployment import Deployment
from flexpie.master.events import (
    DeviceName,
    Event,
    ModelName,
    RequestArrived,
    RequestDisturbed,
    RequestEnded,
    RequestId,
)
from flexpie.master.inference import run_program
from flexpie.master.request import Request, RunInterruptedError
from flexpie.master.reruns import INTERRUPTING
from flexpie.wire.framing import Cancel, Data, Failure, Frame, encode_frame, run_number
from flexpie.wire.tensors import Array
from flexpie.wire.v1 import peer_pb2

_log = logging.getLogger(__name__)


class FrameLink(Protocol):
    """The part of a `WorkerLink` that carries frames."""

    def send(self, message: bytes) -> None:
        """Send a frame; raises FlexPieError when the worker is not connected."""


class RunWatch(Protocol):
    """The part of a `flexpie.master.drift_watch.DriftWatch` that is told of runs."""

    def wants_sample(self) -> bool:
        """Whether the run that begins now is to be sampled."""

    def begin(self, deployment: Deployment, run: int) -> None:
        """A sampled run begins."""

    def finished(self, part: peer_pb2.RequestSample, seconds: float, *, alone: bool) -> None:
        """A sampled run was answered."""


class DataPlane:
    """Runs requests on deployments; what becomes of them is for the state to decide."""

    def __init__(
        self,
        links: Mapping[DeviceName, FrameLink],
        tell: Callable[[Event], object],
        watch: RunWatch,
        first_request: RequestId = 1,
    ) -> None:
        """`tell` takes events to the state, whose instructions come back by `start` and `fail`; `watch` is told what
        runs take. Requests are numbered from `first_request`: where a deployment outlives the master, no two of its
        requests may have one number."""
        self.scattered_bytes = 0
        """Payload sent to workers."""
        self.gathered_bytes = 0
        """Payload received from workers."""
        self.requests: dict[RequestId, Request] = {}
        self._links = links
        self._tell = tell
        self._watch = watch
        self._latest = 0
        """The run that began last."""
        self._numbers = itertools.count(first_request)
        self._runs: dict[int, _Run] = {}
        self.answered: Callable[[Deployment, int, Mapping[str, Array], list[Array]], object] = lambda *_: None
        """Called with every answer: the deployment, the profile, inputs and outputs."""

    async def infer(
        self,
        model: ModelName,
        profile: int,
        inputs: Mapping[str, tuple[Array, ElementType]],
        deadline: float,
        count: int = 1,
    ) -> list[tuple[TensorSpec, Array]]:
        """Answer a request; raises the FlexPieError that ends it. `deadline` is a time of the running
        event loop's clock, and `count` how many of clients' requests are gathered in it.

        Where a run cannot be finished because a device or a link is lost, the state starts another one: inference
        changes nothing, so that nobody notices more than the time that it takes.
        """
        request = Request(next(self._numbers), model, deadline)
        self.requests[request.number] = request
        arrays = {name: array for name, (array, _) in inputs.items()}
        succeeded = False
        try:
            self._tell(RequestArrived(request.number, model, profile, count))
            while True:
                deployment = await request.started()
                try:
                    outputs = await self._run(deployment, request, arrays)
                except RunInterruptedError:
                    continue
                succeeded = True
                self.answered(deployment, profile, arrays, outputs)
                return list(zip(deployment.outputs, outputs, strict=True))
        finally:
            request.close()
            del self.requests[request.number]
            self._tell(RequestEnded(request.number, succeeded))

    async def ask(self, deployment: Deployment, arrays: Mapping[str, Array], deadline: float) -> list[Array]:
        """Run on a deployment that the state knows nothing of; raises the FlexPieError that ends it."""
        deployment = self._turn(deployment)
        request, run = Request(next(self._numbers), deployment.model, deadline), next(self._numbers)
        request.start(deployment)
        request.begin(run)
        self._runs[run] = _Run(request, deployment)
        finished = False
        try:
            outputs = await run_program(deployment, request, arrays, self)
            finished = True
            return outputs
        except RunInterruptedError as interruption:
            raise interruption.cause or FlexPieError(ErrorCode.CANCELLED, str(interruption)) from None
        finally:
            request.close()
            del self._runs[run]
            if not finished:
                self._cancel(deployment, request)

    async def _run(self, deployment: Deployment, request: Request, arrays: Mapping[str, Array]) -> list[Array]:
        """One run of a request; raises RunInterruptedError when the state may start another."""
        deployment = self._turn(deployment)
        run = self._begin(deployment, request)
        began, alone = asyncio.get_running_loop().time(), len(self._runs) == 1
        finished = False
        try:
            outputs = await run_program(deployment, request, arrays, self)
            finished = True
            if request.sample is not None:
                seconds, alone = asyncio.get_running_loop().time() - began, alone and run == self._latest
                self._watch.finished(request.sample, seconds, alone=alone)
            return outputs
        except RunInterruptedError as interruption:
            self._disturbed(deployment, request, interruption)
            raise
        except FlexPieError as error:
            if error.code not in INTERRUPTING or request.failed:
                raise
            refused = RunInterruptedError(error)
            self._disturbed(deployment, request, refused)
            raise refused from error
        finally:
            del self._runs[run]
            if not finished:
                self._cancel(deployment, request)

    def _turn(self, deployment: Deployment) -> Deployment:
        """What of a deployment the next run needs."""
        if not deployment.turns:
            return deployment
        # Also those of other profiles, and models: what a device does for one it cannot do for another.
        names = (run.deployment.names for run in self._runs.values())
        running = Counter(found[0] for found in names if len(found) == 1)
        return deployment.turn({device: running[deployment.devices[device]] for device in deployment.turns})

    def _begin(self, deployment: Deployment, request: Request) -> int:
        """Begin a run; returns its number."""
        sampled = self._watch.wants_sample()
        run = self._latest = run_number(next(self._numbers), sampled=sampled)
        request.begin(run)
        self._runs[run] = _Run(request, deployment)
        if sampled:
            request.sample = peer_pb2.RequestSample(deployment_id=deployment.id, request_id=run)
            self._watch.begin(deployment, run)
        return run

    def _disturbed(self, deployment: Deployment, request: Request, interruption: RunInterruptedError) -> None:
        if interruption.cause is not None:  # else it was the state that interrupted the run
            where = f" device={interruption.device}" if interruption.device else ""
            _log.warning("run interrupted model=%s deployment=%s request=%d%s: %s",
                         request.model, deployment.id, request.number, where, interruption)  # fmt: skip
            self._tell(RequestDisturbed(request.number, deployment.id, Failure.of(interruption.cause)))

    def start(self, request: RequestId, deployment: Deployment) -> None:
        """Run a request on a deployment."""
        if request in self.requests:  # else its client has just left
            self.requests[request].start(deployment)

    def replace(self, deployment: Deployment, lost: DeviceName = "") -> None:
        """A deployment whose devices take turns has other devices now; runs on the lost one begin again."""
        for request in self.requests.values():
            if request.deployment is not None and request.deployment.id == deployment.id:
                request.deployment = deployment
        for run in self._runs.values():
            if run.deployment.id == deployment.id and run.deployment.names == (lost,):
                run.request.interrupt(RunInterruptedError())

    def hold(self, request: RequestId) -> None:
        """Give the run of a request up that is under way."""
        if request in self.requests:
            self.requests[request].hold()

    def fail(self, request: RequestId, failure: Failure) -> None:
        """End a request with an error."""
        if request in self.requests:
            self.requests[request].fail(failure.error)

    def send(self, device: DeviceName, message: bytes, payload_bytes: int) -> None:
        """Send a frame of a request to a device (see `flexpie.master.inference.FrameSender`)."""
        self._links[device].send(message)
        self.scattered_bytes += payload_bytes

    def frame_arrived(self, device: DeviceName, frame: Frame) -> None:
        """A worker sent a result or a failure."""
        run = self._runs.get(frame.request_id)
        if run is None or run.deployment.id != frame.deployment_id:
            return  # it has ended in the meantime
        match frame.content:
            case Data(exchange, source):
                self.gathered_bytes += len(frame.payload)
                run.request.deliver(exchange, source, frame.payload)
            case Failure(code) as failure if code in INTERRUPTING:
                run.request.interrupt(RunInterruptedError(failure.error, device))
            case Failure() as failure:
                run.request.fail(failure.error, device)
            case Cancel(reason):
                run.request.fail(FlexPieError(ErrorCode.CANCELLED, f"Device {device} gave the request up: {reason}."))

    def _cancel(self, deployment: Deployment, request: Request) -> None:
        """Tell every worker that may know a run to forget it."""
        reason = request.end_reason
        message = encode_frame(deployment.id, request.run, 0, Cancel(reason))
        for name in deployment.names:
            try:
                self._links[name].send(message)
            except FlexPieError:
                continue  # a worker that is gone has forgotten everything
        where = f"model={request.model} deployment={deployment.id} request={request.number}"
        if request.failed_on:
            _log.warning("request failed %s device=%s: %s", where, request.failed_on, reason)
        else:
            _log.info("run ended %s: %s", where, reason)


@dataclass(frozen=True)
class _Run:
    """A request on a deployment; frames tell it by its number."""

    request: Request
    deployment: Deployment
