"""Requests on their way: from a client's arrays to frames for the workers and back."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.deployment import Deployment
from flexpie.master.events import DeviceName, DeviceSuspected, Event, ModelName, RequestArrived, RequestEnded, RequestId
from flexpie.master.inference import run_program
from flexpie.master.request import Request
from flexpie.wire.framing import Cancel, Data, Failure, Frame, encode_frame
from flexpie.wire.limits import MAX_TIMEOUT_SECONDS
from flexpie.wire.tensors import Array

_log = logging.getLogger(__name__)


class _DeviceLeavingError(FlexPieError):
    """A worker that is shutting down did not take the request."""


class FrameLink(Protocol):
    """The part of a `WorkerLink` that carries frames."""

    def send(self, message: bytes) -> None:
        """Send a frame; raises FlexPieError when the worker is not connected."""


class DataPlane:
    """Runs requests on deployments; what becomes of them is for the state to decide."""

    def __init__(self, links: Mapping[DeviceName, FrameLink], tell: Callable[[Event], object]) -> None:
        """`tell` takes events to the state, whose instructions come back by `start` and `fail`."""
        self.scattered_bytes = 0
        """Payload sent to workers."""
        self.gathered_bytes = 0
        """Payload received from workers."""
        self.requests: dict[RequestId, Request] = {}
        self._links = links
        self._tell = tell
        self._numbers = itertools.count(1)

    async def infer(
        self,
        model: ModelName,
        choose: Callable[[], int],
        inputs: Mapping[str, tuple[Array, ElementType]],
        timeout_seconds: float,
    ) -> list[tuple[TensorSpec, Array]]:
        """Answer a request; raises the FlexPieError that ends it. `choose` tells the profile that its inputs fit.

        A request that a worker would not take because it is shutting down is begun again: with the devices that stay
        it can be answered, and nobody but us has noticed.
        """
        deadline = asyncio.get_running_loop().time() + min(timeout_seconds, MAX_TIMEOUT_SECONDS)
        while True:
            try:
                return await self._attempt(model, choose(), inputs, deadline)
            except _DeviceLeavingError:
                continue

    async def _attempt(
        self, model: ModelName, profile: int, inputs: Mapping[str, tuple[Array, ElementType]], deadline: float
    ) -> list[tuple[TensorSpec, Array]]:
        request = Request(next(self._numbers), model, deadline)
        self.requests[request.number] = request
        succeeded = False
        try:
            self._tell(RequestArrived(request.number, model, profile))
            deployment = await request.started()
            arrays = {name: array for name, (array, _) in inputs.items()}
            outputs = await run_program(deployment, request, arrays, self)
            succeeded = True
            return list(zip(deployment.outputs, outputs, strict=True))
        finally:
            request.close()
            del self.requests[request.number]
            if not succeeded:
                self._cancel(request)
            self._tell(RequestEnded(request.number, succeeded))

    def start(self, request: RequestId, deployment: Deployment) -> None:
        """Run a request on a deployment."""
        self.requests[request].start(deployment)

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
        request = self.requests.get(frame.request_id)
        deployment = None if request is None else request.deployment
        if request is None or deployment is None or deployment.id != frame.deployment_id:
            return  # it has ended in the meantime
        match frame.content:
            case Data(exchange, source):
                self.gathered_bytes += len(frame.payload)
                request.deliver(exchange, source, frame.payload)
            case Failure(code, message) as failure:
                leaving = code is ErrorCode.SHUTTING_DOWN
                request.fail(_DeviceLeavingError(code, message) if leaving else failure.error, device)
                if leaving or code is ErrorCode.DEVICE_UNREACHABLE:  # of itself, or of a peer
                    for index in deployment.participants:
                        self._tell(DeviceSuspected(deployment.devices[index]))
            case Cancel(reason):
                request.fail(FlexPieError(ErrorCode.CANCELLED, f"Device {device} gave the request up: {reason}."))

    def _cancel(self, request: Request) -> None:
        """Tell every worker that may know the request to forget it."""
        deployment = request.deployment
        if deployment is None:
            return
        reason = request.end_reason
        message = encode_frame(deployment.id, request.number, 0, Cancel(reason))
        for index in deployment.participants:
            try:
                self._links[deployment.devices[index]].send(message)
            except FlexPieError:
                continue  # a worker that is gone has forgotten everything
        where = f"model={request.model} deployment={deployment.id} request={request.number}"
        if request.failed_on:
            _log.warning("request failed %s device=%s: %s", where, request.failed_on, reason)
        else:
            _log.info("request ended %s: %s", where, reason)
