"""The worker's process: server, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from flexpie.security.access import AccessControl
from flexpie.security.credentials import Credentials, expires_at
from flexpie.wire.limits import MAX_CONNECTIONS, MAX_MESSAGE_BYTES, channel_options, server_options
from flexpie.wire.serving import check_exposure, listen
from flexpie.wire.state_folder import StateFolder, default_folder
from flexpie.wire.unreadable import UnreadableMessages
from flexpie.wire.v1 import worker_pb2_grpc
from flexpie.wire.waiting import within
from flexpie.worker.deployment import Limits
from flexpie.worker.door import Door
from flexpie.worker.engine import Engine, OnnxRuntimeEngine
from flexpie.worker.events import DrainStarted
from flexpie.worker.node import WorkerNode
from flexpie.worker.servicer import WorkerIdentity, WorkerServicer
from flexpie.worker.state import WorkerState
from flexpie.worker.store import DEFAULT_STORE_BYTES, Store
from flexpie.worker.streams import SERVICE, PeerServicer

SERVICES = ("flexpie.wire.v1.WorkerService", SERVICE)
BLOBS = "blobs"
"""Where in its state folder a worker keeps its store."""
STOP_SECONDS = 2.0
"""How long calls may take to end once the streams have."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSettings:
    """What the user chooses when he starts a worker."""

    host: str = "localhost"
    port: int = 50051
    """0 is any free one."""
    insecure: bool = False
    """Whether other machines may reach it without encryption."""
    threads: int = 1
    """That run one operator."""
    memory_bytes: int = 0
    """Bound of weights and activations; 0 is no limit."""
    state_folder: Path | None = None
    """None is the default for the port."""
    store_bytes: int = DEFAULT_STORE_BYTES
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_connections: int = MAX_CONNECTIONS
    """At once; more are closed."""
    drain_seconds: float = 30.0
    """How long requests in flight may take once the process was asked to end."""
    peer_port: int | None = 0
    """Where peers' streams are taken beside `port`: 0 is any free one, None is nowhere."""
    unix_socket: bool = True
    """Whether peers on the same machine get a Unix socket."""
    credentials: Credentials | None = None
    """With them, connections are encrypted, and callers need certificates."""


async def serve(settings: WorkerSettings, announce: Callable[[str], None], engine: Engine | None = None) -> None:
    """Run a worker until a signal ends it. Calls `announce` with ``host:port`` when it is ready.

    Raises ``PORT_IN_USE``, and ``INVALID_ARGUMENT`` for settings that cannot be used.
    """
    credentials = settings.credentials
    check_exposure(settings.host, settings.insecure, encrypted=credentials is not None)
    engine = engine or OnnxRuntimeEngine(settings.threads)
    # The port first: its default state folder is in use as well when the port is.
    guards = [*([AccessControl()] if credentials else []), UnreadableMessages()]
    server = grpc.aio.server(
        interceptors=guards,
        options=server_options(settings.max_message_bytes, settings.max_connections),
        # A peer has a stream for data and one for heartbeats; the master calls beside its own.
        maximum_concurrent_rpcs=2 * settings.max_connections + 100,
    )
    address = listen(server, settings.host, settings.port, credentials.server if credentials else None)
    try:
        with StateFolder(settings.state_folder or default_folder("worker", settings.port)) as folder:
            await _Daemon(settings, server, folder, engine).run(lambda: announce(address))
    finally:
        await server.stop(None)


class _Daemon:
    """The objects of one running worker."""

    def __init__(self, settings: WorkerSettings, server: grpc.aio.Server, folder: StateFolder, engine: Engine) -> None:
        self._settings = settings
        self._server = server
        self._asked_to_end = asyncio.Event()
        limit = settings.max_message_bytes
        state = WorkerState(Limits(memory_bytes=settings.memory_bytes))
        store = Store(folder.path / BLOBS, settings.store_bytes)
        self._node = WorkerNode(state, store, engine, channel_options(limit), settings.credentials)
        self._streams = PeerServicer(self._node, limit)
        self._door = Door(self._streams, limit, settings.max_connections, settings.credentials)
        self._health = health.aio.HealthServicer()
        identity = WorkerIdentity(
            folder.identity, settings.memory_bytes, settings.threads, limit, expires_at(settings.credentials)
        )
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(self._node, identity), server)
        server.add_generic_rpc_handlers((self._streams.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    async def run(self, announce: Callable[[], None]) -> None:
        await self._set_health(_NOT_SERVING)
        self._watch_signals()
        await self._server.start()
        if self._settings.peer_port is not None:
            await self._door.open(self._settings.host, self._settings.peer_port, unix_socket=self._settings.unix_socket)
        await self._set_health(_SERVING)
        announce()
        try:
            await self._asked_to_end.wait()
            await self._drain()
        finally:
            self._streams.leave()
            self._door.leave()
            await self._server.stop(STOP_SECONDS)
            self._door.close()
            await self._node.close()
            _log.info("worker left")

    async def _drain(self) -> None:
        """Take no new requests, and give those in flight some time."""
        _log.info("draining requests=%d seconds=%g", len(self._node.state.requests), self._settings.drain_seconds)
        await self._set_health(_NOT_SERVING)
        self._node.handle(DrainStarted())
        try:
            await within(self._settings.drain_seconds, self._node.left.wait())
        except asyncio.TimeoutError:
            _log.warning("requests given up count=%d", len(self._node.state.requests))

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)

    def _end(self, number: int) -> None:
        if number == signal.SIGINT and self._asked_to_end.is_set():
            os._exit(130)  # a computation cannot be interrupted in any other way
        self._asked_to_end.set()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)
