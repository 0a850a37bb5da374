"""The master's process: one gRPC server, and how it starts and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from flexpie.master.admin import MasterServicer
from flexpie.master.archive import Archive
from flexpie.master.cluster_file import ClusterFile
from flexpie.master.health import HealthServicer
from flexpie.master.master import Master, Settings
from flexpie.master.open_inference import OpenInferenceServicer
from flexpie.master.planning import PIPELINE, Pipeline, check_installed
from flexpie.master.uploads import MAX_UPLOAD_BYTES
from flexpie.security.access import AccessControl
from flexpie.security.credentials import Credentials
from flexpie.wire import limits
from flexpie.wire.allocator import bound_kept_memory
from flexpie.wire.open_inference import SERVICE as OPEN_INFERENCE
from flexpie.wire.open_inference import open_inference_handler, reflection_pool
from flexpie.wire.serving import check_exposure, listen
from flexpie.wire.state_folder import StateFolder
from flexpie.wire.unreadable import UnreadableMessages
from flexpie.wire.v1 import master_pb2, master_pb2_grpc

GOODBYE_SECONDS = 1.0
"""Time for the last answers to leave when the server stops."""

_MASTER_SERVICE = "flexpie.wire.v1.MasterService"
_HEALTH_SERVICE = "grpc.health.v1.Health"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaemonOptions:
    """How the daemon listens and what it bounds."""

    host: str = "localhost"
    port: int = 50050
    """0 takes any free port."""
    insecure: bool = False
    """Whether other machines may reach it without encryption."""
    max_request_bytes: int = limits.MAX_MESSAGE_BYTES
    max_upload_bytes: int = MAX_UPLOAD_BYTES
    drain_seconds: float = 30.0
    """How long requests in flight may take when the daemon is asked to stop."""
    state_folder: Path | None = None
    """What survives a restart; None is a folder that is gone afterwards."""
    settings: Settings = field(default_factory=Settings)
    credentials: Credentials | None = None
    """With them, connections are encrypted, and callers need certificates."""
    max_connections: int = limits.MAX_CONNECTIONS
    """At once; more are closed."""


def make_server(master: Master, options: DaemonOptions) -> grpc.aio.Server:
    """A server with every service of the master; it does not listen yet."""
    # gRPC drops a larger message before anybody sees it, with a text of its own. With some room above our limit the
    # usual offender gets our text, which says what to do.
    hard_limit = options.max_request_bytes + options.max_request_bytes // 2 + limits.CHUNK_BYTES * 2
    server = grpc.aio.server(
        interceptors=[*([AccessControl()] if options.credentials else []), UnreadableMessages()],
        options=limits.server_options(min(hard_limit, 2**31 - 1), options.max_connections),
        # Each call may hold a message; beyond our own bound of requests there is room for watchers and questions.
        maximum_concurrent_rpcs=2 * options.settings.admission.requests + 100,
    )
    services = frozenset({OPEN_INFERENCE, _MASTER_SERVICE})
    server.add_generic_rpc_handlers((open_inference_handler(OpenInferenceServicer(master, options.max_request_bytes)),))
    master_pb2_grpc.add_MasterServiceServicer_to_server(MasterServicer(master, options.max_upload_bytes), server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(master, services), server)
    pool = reflection_pool((master_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR))
    names = (*services, _HEALTH_SERVICE, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool)
    return server


async def serve(
    file: ClusterFile, options: DaemonOptions, announce: Callable[[str], None], planning: Pipeline = PIPELINE
) -> None:
    """Run the master until a signal asks it to stop.

    `announce` is given ``host:port`` once the server listens. SIGTERM and the first SIGINT let requests in flight
    finish; the second SIGINT ends the process at once, with exit code 130. Raises FlexPieError when it cannot listen.
    """
    check_installed()
    bound_kept_memory()
    stop = asyncio.Event()
    _on_signals(stop)
    check_exposure(options.host, options.insecure, encrypted=options.credentials is not None)
    with StateFolder(options.state_folder, "master") as folder:
        archive = Archive(folder.path, folder.identity, file)
        master = Master(file, archive, options.settings, planning, options.credentials)
        try:
            await _run(master, options, announce, stop)
        finally:
            archive.close()
    if master.planning:
        os._exit(0)  # Python would wait for the thread, which nobody needs any more


async def _run(master: Master, options: DaemonOptions, announce: Callable[[str], None], stop: asyncio.Event) -> None:
    credentials = options.credentials
    server = make_server(master, options)
    try:
        address = listen(server, options.host, options.port, credentials.server if credentials else None)
        await master.start()  # first, so that no client is told that a model is not here which only is not read yet
        await server.start()
        announce(address)
        await stop.wait()
        _log.info("stopping: %d requests in flight", len(master.state.requests))
        await master.stop(options.drain_seconds)
    finally:
        await server.stop(GOODBYE_SECONDS)
    _log.info("stopped")


def _on_signals(stop: asyncio.Event) -> None:
    def interrupted() -> None:
        if stop.is_set():
            os._exit(130)  # planning may be under way in a thread, which nothing else would end
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)
