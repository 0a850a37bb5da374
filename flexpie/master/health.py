"""The health service: the whole server, and every model under its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flexpie.master.master import Master
from flexpie.master.records import ModelState

_Status = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """SERVING only where every session is built and warmed."""

    def __init__(self, master: Master, services: frozenset[str]) -> None:
        """`services` are the gRPC services of the server; they are healthy when it is."""
        self._master = master
        self._services = services | {""}

    async def Check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """The status now; NOT_FOUND for a name that is neither a service nor a model."""
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no service or model {request.service!r}.")
        return _Status(status=status)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """The status now, and again whenever it changes."""
        last = None
        while not context.done():
            status = self._status(request.service)
            if status != last:
                yield _Status(status=status)
                last = status
                continue  # it may have changed while it was sent
            await self._master.changed()

    def _status(self, name: str) -> Any:
        if name in self._services:
            return _Status.SERVING if self._master.ready else _Status.NOT_SERVING
        record = self._master.state.models.get(name)
        if record is None:
            return _Status.SERVICE_UNKNOWN
        state, _ = self._master.state.describe(record)
        serving = state is ModelState.READY and not self._master.state.stopping
        return _Status.SERVING if serving else _Status.NOT_SERVING
