"""The workers of a cluster as a measuring master sees them: connect, deploy programs, run them, note arrival times."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import numpy as np

from flexpie.compiler import Blob
from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.core.program import DeviceProgram, Feed
from flexpie.master.deploying import together
from flexpie.master.deployment import Deployment
from flexpie.master.inference import run_program
from flexpie.master.links import WorkerLink
from flexpie.master.request import Request
from flexpie.security.credentials import Credentials
from flexpie.traces.programs import Measurement
from flexpie.wire.codec import program_to_proto
from flexpie.wire.framing import Data, Failure, Frame
from flexpie.wire.tensors import NUMPY_DTYPES, Array
from flexpie.wire.v1 import peer_pb2, worker_pb2

Durations = Mapping[tuple[int, str], list[float]]
"""Seconds per round of each batch, by device and label."""

CONNECT_SECONDS = 10.0
"""How long all workers together may take to shake hands."""


PATIENT = Heartbeat(10.0)
"""Measurements keep workers as busy as they can be, and nobody waits for an answer."""


class Workers(AbstractAsyncContextManager["Workers"]):
    """Connections to all workers of a cluster, open while an ``async with`` block runs.

    Entering raises ``DEVICE_UNREACHABLE`` with every device that does not answer, or what a device refuses with.
    """

    def __init__(self, cluster: Cluster, credentials: Credentials | None = None) -> None:
        self.cluster = cluster
        self.threads: dict[str, int] = {}
        """Of each worker's engine, by device."""
        self._master_id = f"measure-{uuid.uuid4().hex}"
        self._links = {
            device.name: WorkerLink(device, self._master_id, self, PATIENT, credentials) for device in cluster.devices
        }
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running: list[asyncio.Task[None]] = []
        self._request: Request | None = None
        self._arrivals: dict[tuple[int, int], float] = {}

    async def __aenter__(self) -> Workers:
        loop = asyncio.get_running_loop()
        self._waiting = {name: loop.create_future() for name in self._links}
        self._errors: dict[str, FlexPieError] = {}
        self._running = [asyncio.create_task(link.run()) for link in self._links.values()]
        try:
            await asyncio.wait(self._waiting.values(), timeout=CONNECT_SECONDS)
            self._check_connected()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def deployments(self) -> Sequence[str]:
        """See `flexpie.master.links.LinkListener`: what is measured does not survive its connection."""
        return ()

    async def measure(self, measurement: Measurement, blobs: Mapping[str, Blob], timeout_seconds: float) -> Durations:
        """Run a measurement once.

        `blobs` has what the programs refer to, by hash. Raises FlexPieError when a worker fails or is lost, and
        ``DEADLINE_EXCEEDED``.
        """
        names = tuple(device.name for device in self.cluster.devices)
        participants = tuple(index for index, program in enumerate(measurement.programs) if program is not None)
        deployment = Deployment(
            f"measure-{uuid.uuid4().hex}", "a measurement", names, participants, measurement.master, ()
        )
        try:
            await together(
                self._deploy(deployment, program, blobs) for program in measurement.programs if program is not None
            )
            arrivals = await self._run(deployment, timeout_seconds)
        finally:
            await asyncio.gather(
                *(self._links[names[index]].undeploy(deployment.id) for index in participants), return_exceptions=True
            )
        return measurement.durations(arrivals)

    async def _deploy(self, deployment: Deployment, program: DeviceProgram, blobs: Mapping[str, Blob]) -> None:
        link = self._links[deployment.devices[program.device]]
        refs = [ref for subgraph in program.subgraphs for ref in (subgraph.model, *subgraph.weights)]
        missing = await link.missing([blobs[sha256] for sha256 in dict.fromkeys(ref.sha256 for ref in refs)])
        if missing:
            await link.push(missing, lambda nbytes: None)
        addresses = [device.address for device in self.cluster.devices]
        request = worker_pb2.DeployRequest(
            deployment_id=deployment.id,
            program=program_to_proto(program),
            peers={index: addresses[index] for index in program.peers},
            model=deployment.model,
            device_names=deployment.devices,
            master_id=self._master_id,
        )
        await link.deploy(request)

    async def _run(self, deployment: Deployment, timeout_seconds: float) -> Mapping[tuple[int, int], float]:
        request = Request(1, deployment.model, asyncio.get_running_loop().time() + timeout_seconds)
        request.start(deployment)
        self._request, self._arrivals = request, {}
        try:
            await run_program(deployment, request, _inputs(deployment.program), self)
            return self._arrivals
        finally:
            self._request = None
            request.close()

    # What `flexpie.master.inference.FrameSender` asks for.

    def send(self, device: str, message: bytes, payload_bytes: int) -> None:
        """Send a frame to a device."""
        self._links[device].send(message)

    # What `flexpie.master.links.LinkListener` asks for.

    def link_up(self, device: str, hello: worker_pb2.HandshakeReply) -> None:
        """A worker can be used."""
        self.threads[device] = hello.threads
        if not self._waiting[device].done():
            self._waiting[device].set_result(None)

    def link_down(self, device: str, error: FlexPieError) -> None:
        """A worker is lost, or was not there."""
        self._errors[device] = error
        if self._request is not None:
            self._request.fail(error, device)
        elif error.code is ErrorCode.VERSION_MISMATCH and not self._waiting[device].done():
            self._waiting[device].set_exception(error)

    def beat_arrived(self, device: str, beat: peer_pb2.BeatReply) -> None:
        """See `flexpie.master.links.LinkListener`."""

    def frame_arrived(self, device: str, frame: Frame) -> None:
        """A worker sent a mark or a failure."""
        request = self._request
        if request is None or request.deployment is None or request.deployment.id != frame.deployment_id:
            return
        match frame.content:
            case Data(exchange, source):
                self._arrivals[exchange, source] = asyncio.get_running_loop().time()
                request.deliver(exchange, source, frame.payload)
            case Failure() as failure:
                request.fail(failure.error, device)
            case _:
                pass  # nothing else concerns a measurement

    def _check_connected(self) -> None:
        for future in self._waiting.values():
            if future.done():
                future.result()  # raises what the worker was refused with
        missing = [name for name, future in self._waiting.items() if not future.done()]
        if missing:
            reasons = [self._errors[name].message if name in self._errors else f"device {name} does not answer."
                       for name in missing]  # fmt: skip
            raise FlexPieError(
                ErrorCode.DEVICE_UNREACHABLE,
                " ".join(reasons),
                "Start `flexpie-worker` on each device, or take those that are away out of the cluster file.",
            )


def _inputs(master: DeviceProgram) -> dict[str, Array]:
    """Something for each of the master's inputs: numbers as they occur in networks, so that none is slow."""
    numbers = np.random.default_rng(0)
    values = [master.values[step.value] for step in master.steps if isinstance(step, Feed)]
    return {
        value.tensor: np.abs(numbers.standard_normal(value.region.shape, np.float32)).astype(NUMPY_DTYPES[value.dtype])
        for value in values
    }
