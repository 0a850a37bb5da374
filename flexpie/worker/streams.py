"""The data streams that the master and other workers open to this worker."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from flexpie import __version__
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER
from flexpie.wire.framing import Buffer, Cancel, Data, Frame, decode_frame
from flexpie.wire.lean_call import NO_DOOR, door_handler
from flexpie.wire.limits import (
    DEPLOYMENT_KEY,
    MASTER_KEY,
    MASTER_SOURCE,
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    PROTOCOL_KEY,
    SOURCE_KEY,
)
from flexpie.wire.outbox import Outbox, Writing
from flexpie.wire.status import errors_as_status
from flexpie.worker.beats import beat_handler
from flexpie.worker.events import CancelArrived, FrameArrived, PeerLost, RequestKey
from flexpie.worker.node import WorkerNode

SERVICE = "flexpie.wire.v1.PeerService"
FLUSH_SECONDS = 2.0
"""How long a stream may take to write its last messages when the worker leaves."""

_Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who opened a stream, from its metadata."""

    source: int
    """Index of the device, or `MASTER`."""
    deployment_id: str
    """That the stream belongs to; empty for the master's."""
    master_id: str | None
    """None for a worker's stream."""

    @classmethod
    def of(cls, metadata: Mapping[str, str | bytes]) -> Caller:
        """Raises ``VERSION_MISMATCH``, or ``INVALID_ARGUMENT`` for metadata that is missing."""
        protocol = str(metadata.get(PROTOCOL_KEY, "unknown"))
        if protocol != str(PROTOCOL):
            raise FlexPieError(
                ErrorCode.VERSION_MISMATCH,
                f"A stream was opened with protocol {protocol}; this worker runs FlexPie {__version__} "
                f"(protocol {PROTOCOL}).",
                "Install the same version everywhere.",
            )
        source, deployment = str(metadata.get(SOURCE_KEY, "")), str(metadata.get(DEPLOYMENT_KEY, ""))
        if source == MASTER_SOURCE:
            return cls(MASTER, "", str(metadata.get(MASTER_KEY, "")))
        if not (source.isascii() and source.isdecimal() and len(source) < 10 and deployment):
            what = f"A stream must name its source and deployment in {SOURCE_KEY} and {DEPLOYMENT_KEY}."
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what)
        return cls(int(source), deployment, None)


class PeerServicer:
    """`Exchange`: takes frames in, and brings the master its results."""

    def __init__(self, node: WorkerNode, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.door = NO_DOOR
        """Where else streams are taken (`flexpie.worker.door`)."""
        self._node = node
        self._max_message_bytes = max_message_bytes
        self._numbers = itertools.count()
        self._leaving = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """To add to a server. Messages stay bytes: framing.py encodes and decodes them."""
        exchange: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.exchange)
        handlers = {"Exchange": exchange, "Beat": beat_handler(self._node), "Door": door_handler(lambda: self.door)}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def enter(self, caller: Caller, stream: Writing) -> int:
        """Somebody opened a stream; returns its number."""
        number = next(self._numbers)
        self._node.add_stream(number, stream, caller.master_id)
        return number

    def left(self, number: int, caller: Caller) -> None:
        """A stream has ended."""
        self._node.remove_stream(number, caller.master_id)
        if caller.master_id is None:
            self._node.handle(PeerLost(caller.deployment_id, caller.source, receiving=True))

    def leave(self) -> None:
        """End every stream in order, when its last messages are written."""
        self._leaving.set()

    async def exchange(self, _: object, context: _Context) -> None:
        """One stream, until either side ends it."""
        async with errors_as_status(context):
            caller = Caller.of(dict(context.invocation_metadata() or ()))
            await context.send_initial_metadata(((PROTOCOL_KEY, str(PROTOCOL)),))
            await self._serve(caller, context)

    async def _serve(self, caller: Caller, context: _Context) -> None:
        outbox = Outbox(context.write, self._max_message_bytes)
        number = self.enter(caller, outbox)
        reading = asyncio.create_task(self._read(number, caller, context))
        writing = asyncio.create_task(outbox.run())
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({reading, writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                outbox.close()
                await asyncio.wait({writing}, timeout=FLUSH_SECONDS)
        finally:
            for task in (reading, writing, leaving):
                task.cancel()
            self.left(number, caller)
            results = await asyncio.gather(reading, writing, leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, FlexPieError):
                _log.warning("stream ended source=%s: %s", caller.source, result.message)
                raise result

    async def _read(self, number: int, caller: Caller, context: _Context) -> None:
        while isinstance(message := await context.read(), bytes):
            self.take(number, caller, message)

    def take(self, number: int, caller: Caller, message: Buffer) -> None:
        """A message came on a stream; raises FlexPieError for one that its caller must not send."""
        try:
            self._take(number, caller, decode_frame(message))
        except FlexPieError:
            raise
        except Exception:
            _log.exception("defect while taking in a frame")  # else the stream would just end
            raise

    def _take(self, number: int, caller: Caller, frame: Frame) -> None:
        key, node = RequestKey(frame.deployment_id, frame.request_id), self._node
        match frame.content:
            case Data(exchange, source):
                if source != caller.source or caller.deployment_id not in ("", frame.deployment_id):
                    raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, "A frame came on a stream of somebody else.")
                deadline = node.deadline_after(frame.timeout_milliseconds)
                node.handle(FrameArrived(key, exchange, source, frame.payload, deadline, node.time(), number))
            case Cancel(reason) if caller.master_id is not None:
                node.handle(CancelArrived(key, reason))
            case _:
                pass  # nothing else concerns a worker
