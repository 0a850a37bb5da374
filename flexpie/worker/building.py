"""Builds what a deployment needs on this worker, sessions and streams to peers, and gives it back."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import DeviceProgram
from flexpie.security.credentials import Credentials
from flexpie.wire.allocator import return_free_memory
from flexpie.wire.framing import Failure
from flexpie.wire.limits import ChannelOptions
from flexpie.worker.deployment import Deployment
from flexpie.worker.engine import Engine, Interruption, Session
from flexpie.worker.events import DeploymentBuilt, DeploymentFailed, Event
from flexpie.worker.peer_watch import PeerWatches
from flexpie.worker.peers import Peer, PeerLink
from flexpie.worker.prepared import PreparedProgram
from flexpie.worker.sessions import load_sessions, warm_sessions
from flexpie.worker.store import Store

WARM_UP_SECONDS = 20.0
"""How long sessions are warmed: on zeros a Loop may never end."""

BUILD_NICENESS = 3
"""Of the thread that builds a plan that is to serve, maybe while an old one does: a third of what both want."""
BACKGROUND_NICENESS = 10
"""Of the one that builds what nobody waits for: a tenth."""

_log = logging.getLogger(__name__)


@dataclass
class Resources:
    """What a deployment holds."""

    program: DeviceProgram
    prepared: PreparedProgram
    sessions: Sequence[Session] = ()
    links: dict[int, PeerLink] = field(default_factory=dict)
    """By index of the peer."""
    building: asyncio.Task[None] | None = None
    warm_up: Interruption = field(default_factory=Interruption)
    build_seconds: float = 0.0
    bytes_sent: int = 0


class Builder:
    """Builds beside the event loop, one deployment that is to serve and one in the background at a time; requests of
    others go on."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        options: ChannelOptions,
        watches: PeerWatches,
        deliver: Callable[[Event], None],
        credentials: Credentials | None = None,
    ) -> None:
        """`deliver` gets `DeploymentBuilt` or `DeploymentFailed`, and later what the streams to peers report."""
        self.disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        """The one thread that uses the store."""
        self._store = store
        self._engine = engine
        self._options = options
        self._watches = watches
        self._credentials = credentials
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._loading = _thread("build", BUILD_NICENESS)
        self._background = _thread("standby", BACKGROUND_NICENESS)
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, deployment: Deployment, addresses: Mapping[int, str], in_background: bool = False) -> Resources:
        """Begin to build; `addresses` are those of the peers that the program sends to."""
        resources = Resources(deployment.program, PreparedProgram(deployment.program))
        thread = self._background if in_background else self._loading
        resources.building = self._loop.create_task(self._build(deployment, addresses, resources, thread))
        return resources

    def free(self, deployment_id: str, resources: Resources) -> None:
        """Give back what a deployment holds, finished or not."""
        if resources.building is not None:
            resources.building.cancel()
        resources.warm_up.set()
        resources.sessions = ()
        # What many sessions leave is in pieces, of which few are used again.
        self._background.submit(return_free_memory)
        for link in resources.links.values():
            task = self._loop.create_task(link.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self.disk.submit(self._store.unpin, deployment_id)

    async def close(self) -> None:
        """End the threads, when every deployment has been freed."""
        if self._closing:
            await asyncio.wait(self._closing)
        for thread in (self._loading, self._background):
            thread.shutdown(wait=False, cancel_futures=True)
        self.disk.shutdown(wait=False)

    async def _build(
        self, deployment: Deployment, addresses: Mapping[int, str], resources: Resources, thread: Executor
    ) -> None:
        started = time.monotonic()
        event: Event
        try:
            await self._loop.run_in_executor(self.disk, self._pin, deployment)
            self._open_links(deployment, addresses, resources)
            load = functools.partial(load_sessions, deployment.program, self._store.folder, self._engine)
            resources.sessions = await self._loop.run_in_executor(thread, load)
            await self._warm(resources, thread)
            for link in resources.links.values():
                await link.opened()
            event = DeploymentBuilt(deployment.deployment_id)
        except FlexPieError as error:
            event = DeploymentFailed(deployment.deployment_id, Failure.of(error))
        except Exception as error:
            _log.exception("defect while building deployment=%s", deployment.deployment_id)
            failure = Failure(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
            event = DeploymentFailed(deployment.deployment_id, failure)
        resources.build_seconds = time.monotonic() - started
        resources.building = None
        self._deliver(event)

    def _pin(self, deployment: Deployment) -> None:
        """Keep the deployment's blobs, all of which must be in the store."""
        blobs = [blob for graph in deployment.program.subgraphs for blob in (graph.model, *graph.weights)]
        self._store.pin(deployment.deployment_id, blobs)
        missing = self._store.missing(blobs)
        if missing:
            raise FlexPieError(
                ErrorCode.CORRUPT_PACKAGE,
                f"{len(missing)} blobs of the package are not in the store, {missing[0].sha256} is one.",
                "Push the package again; if that does not help, start the worker with a larger --store-bytes.",
            )

    async def _warm(self, resources: Resources, thread: Executor) -> None:
        def warm() -> None:  # through `resources`: whatever of this call lives on, its sessions go when they are freed
            warm_sessions(resources.program, resources.sessions, resources.warm_up)
            return_free_memory()  # sessions lay weights out anew: as much as they take lies free between them

        timer = self._loop.call_later(WARM_UP_SECONDS, resources.warm_up.set)
        try:
            await self._loop.run_in_executor(thread, warm)
        finally:
            timer.cancel()

    def _open_links(self, deployment: Deployment, addresses: Mapping[int, str], resources: Resources) -> None:
        program = deployment.program
        for index in program.peers:
            name = deployment.name_of(index)
            if index not in addresses:
                raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"The package does not tell the address of {name}.")
            peer = Peer(deployment.deployment_id, program.device, index, name, addresses[index])
            resources.links[index] = PeerLink(peer, self._options, self._watches, self._deliver, self._credentials)


def _thread(name: str, niceness: int) -> ThreadPoolExecutor:
    """One thread, which is made when it is needed and gives way to requests: on Linux it has a priority of its own."""

    def give_way() -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)

    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=give_way)
