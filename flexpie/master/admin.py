"""FlexPie's own service: load and unload models, and a look inside."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any

import grpc

from flexpie.core.boundary import BOUNDARIES, Boundary
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import OBJECTIVES, Objective
from flexpie.core.strategy import AUTO, STRATEGIES
from flexpie.master.cluster_file import MAX_PROFILES, NAME_RULE, ModelEntry, Shapes, is_name
from flexpie.master.master import Master
from flexpie.master.readiness import failure_of
from flexpie.master.records import ModelRecord, ModelState
from flexpie.master.serving import LONGEST_WAIT_SECONDS, MOST_BATCH, Serving, with_batches
from flexpie.master.tracing import model_traces
from flexpie.master.uploads import MAX_UPLOAD_BYTES, Upload
from flexpie.master.views import models_to_proto, progress_to_proto, status_to_proto
from flexpie.wire.limits import PROTOCOL, PROTOCOL_KEY
from flexpie.wire.status import errors_as_status
from flexpie.wire.v1 import master_pb2, master_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
_log = logging.getLogger(__name__)


class MasterServicer(master_pb2_grpc.MasterServiceServicer):
    """Decodes calls, hands them to the master, encodes its answers."""

    def __init__(self, master: Master, max_upload_bytes: int = MAX_UPLOAD_BYTES) -> None:
        self._master = master
        self._max_upload_bytes = max_upload_bytes
        self._started_at = time.monotonic()

    async def Load(
        self, request_iterator: AsyncIterator[master_pb2.LoadRequest], context: Context
    ) -> AsyncIterator[master_pb2.LoadProgress]:
        """Take in a model, deploy it, and tell how far it is. A model that fails, or whose client leaves, is gone."""
        async with errors_as_status(context):
            # Who is not allowed this call never sees that, and sends nothing.
            await context.send_initial_metadata(((PROTOCOL_KEY, str(PROTOCOL)),))
            spec = await _first_spec(request_iterator)
            if spec.name:  # before a long upload for nothing
                _check_name(spec.name)
                self._master.check_name(spec.name)
            upload = self._master.archive.models.upload(spec.total_bytes, self._max_upload_bytes)
            try:
                yield _uploaded(upload)
                async for chunk in _chunks(request_iterator):
                    await asyncio.to_thread(upload.write, chunk.file_name, chunk.data)
                    yield _uploaded(upload)
                await asyncio.to_thread(upload.finish)
                entry = self._master.load(_entry(spec, upload), upload)
            except BaseException:
                upload.remove()
                raise
            _log.info("model uploaded model=%s bytes=%d", entry.name, upload.received_bytes)
            record = self._master.model(entry.name)
            ready = False
            try:
                async for progress in self._follow(record):
                    ready = progress.finished  # a client may leave as soon as it reads this
                    yield progress
            except BaseException:
                if not ready:
                    await asyncio.shield(self._master.withdraw(record))
                raise

    async def _follow(self, record: ModelRecord) -> AsyncIterator[master_pb2.LoadProgress]:
        """Progress of a model until it is ready; raises what it fails with. Then it is remembered, for good."""
        last = None
        while True:
            progress = await next_progress(self._master, record, last)
            if progress.finished:
                await self._master.remember(record)
            yield progress
            if progress.finished:
                return
            last = progress

    async def Unload(self, request: master_pb2.UnloadRequest, context: Context) -> master_pb2.UnloadReply:
        """End a model; its requests in flight finish."""
        async with errors_as_status(context):
            await self._master.unload(request.name)
        return master_pb2.UnloadReply()

    async def Models(self, request: master_pb2.ModelsRequest, context: Context) -> master_pb2.ModelsReply:
        """Every model and how it is served."""
        async with errors_as_status(context):
            return master_pb2.ModelsReply(models=models_to_proto(self._master))

    async def MasterStatus(
        self, request: master_pb2.MasterStatusRequest, context: Context
    ) -> master_pb2.MasterStatusReply:
        """Devices, models and counters."""
        async with errors_as_status(context):
            return status_to_proto(self._master, time.monotonic() - self._started_at)

    async def TraceModel(
        self, request: master_pb2.TraceModelRequest, context: Context
    ) -> AsyncIterator[master_pb2.TraceModelReply]:
        """What devices do for a model's requests while the call lasts."""
        async with errors_as_status(context), aclosing(model_traces(self._master, request.name)) as replies:
            async for reply in replies:
                yield reply


async def next_progress(
    master: Master, record: ModelRecord, last: master_pb2.LoadProgress | None
) -> master_pb2.LoadProgress:
    """The next news of a model that is being loaded; raises why it will not become ready."""
    while True:
        if master.state.models.get(record.entry.name) is not record or not record.wanted:
            raise FlexPieError(ErrorCode.CANCELLED, f"Model {record.entry.name} was unloaded while it was loaded.")
        state, reason = master.state.describe(record)
        failure = failure_of(record, master.state.members, master.state.links)
        if failure is not None:
            raise failure.error
        if state is ModelState.WAITING or master.state.stopping:
            what = "the master is shutting down" if master.state.stopping else reason
            raise FlexPieError(
                ErrorCode.MODEL_NOT_READY,
                f"Model {record.entry.name} cannot be deployed: {what}.",
                "Look at `flexpie status`.",
            )
        progress = progress_to_proto(master, record)
        if progress != last:
            return progress
        await master.changed()


async def _first_spec(requests: AsyncIterator[master_pb2.LoadRequest]) -> master_pb2.LoadSpec:
    async for request in requests:
        if request.WhichOneof("request") == "spec":
            return request.spec
        break
    raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "An upload begins with a LoadSpec.")


async def _chunks(requests: AsyncIterator[master_pb2.LoadRequest]) -> AsyncIterator[master_pb2.FileChunk]:
    async for request in requests:
        if request.WhichOneof("request") != "chunk":
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "After its LoadSpec an upload has file chunks only.")
        yield request.chunk


def _uploaded(upload: Upload) -> master_pb2.LoadProgress:
    return master_pb2.LoadProgress(stage="upload", done=upload.received_bytes, total=upload.total_bytes, unit="bytes")


def _check_name(name: str) -> None:
    if not is_name(name):
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"{name[:80]!r} is no name for a model.",
                           f"Give it another name: {NAME_RULE}.")  # fmt: skip


def _entry(spec: master_pb2.LoadSpec, upload: Upload) -> ModelEntry:
    scheme = spec.scheme or AUTO
    if scheme not in STRATEGIES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Unknown scheme {scheme!r}.", f"Choose one of {', '.join(STRATEGIES)}."
        )
    objective = spec.objective or Objective.LATENCY.value
    if objective not in OBJECTIVES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Unknown objective {objective!r}.", f"Choose one of {', '.join(OBJECTIVES)}."
        )
    name = spec.name or PurePosixPath(upload.model_path.name).stem
    _check_name(name)
    serving = _serving(spec)
    profiles = _batched(_profiles(spec), serving)
    return ModelEntry(
        name, upload.model_path, profiles, scheme, _plan(spec, scheme), objective, serving, _boundary(spec)
    )


def _boundary(spec: master_pb2.LoadSpec) -> Boundary:
    if spec.boundary and spec.plan:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, "Both a boundary and a plan, which has one itself, are given.",
            "Give one of them; the boundary of a plan is in its file.",
        )  # fmt: skip
    boundary = spec.boundary or Boundary.FLOAT32.value
    if boundary not in BOUNDARIES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Unknown boundary {boundary!r}.", f"Choose one of {', '.join(BOUNDARIES)}."
        )
    return Boundary(boundary)


def _serving(spec: master_pb2.LoadSpec) -> Serving:
    if not spec.HasField("batching"):
        return Serving(spec.in_flight)
    batching = spec.batching
    if not 1 <= batching.max <= MOST_BATCH:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Batches of {batching.max} requests are wanted.",
            f"Choose from 1 to {MOST_BATCH}.",
        )  # fmt: skip
    if not 0 <= batching.wait_seconds <= LONGEST_WAIT_SECONDS:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"Requests are to wait {batching.wait_seconds:g} s for others.",
            f"Choose at most {LONGEST_WAIT_SECONDS:g} s.",
        )  # fmt: skip
    if batching.max > 1 and spec.plan:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, "Both batching and a plan are given.",
            "A plan is for one set of input shapes, and batches have others: give one of them.",
        )  # fmt: skip
    return Serving(spec.in_flight, batching.max, batching.wait_seconds)


def _batched(profiles: Sequence[Shapes], serving: Serving) -> tuple[Shapes, ...]:
    try:
        found = with_batches(profiles, serving.max_batch)
    except ValueError as error:
        raise FlexPieError(
            ErrorCode.INVALID_SHAPE, f"Expected, {error}.", "Give them, or load it without batching."
        ) from None
    if len(found) > MAX_PROFILES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            f"With those of its batches the model has {len(found)} profiles; the limit is {MAX_PROFILES}.",
            "Give fewer profiles, or smaller batches.",
        )
    return found


def _plan(spec: master_pb2.LoadSpec, scheme: str) -> str:
    """The text of the plan that was given; whether it is one is seen when it is deployed."""
    if spec.plan and scheme != AUTO:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "Both a scheme and a plan are given.", "Give one of them.")
    if spec.plan and len(spec.profiles) > 1:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"One plan is given for {len(spec.profiles)} profiles.",
            "A plan is for one set of input shapes: give one profile.",
        )  # fmt: skip
    return spec.plan


def _profiles(spec: master_pb2.LoadSpec) -> tuple[Shapes, ...]:
    if spec.profiles and spec.input_shapes:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "Both input shapes and profiles are given.", "Give one of them.")
    if len(spec.profiles) > MAX_PROFILES:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT, f"{len(spec.profiles)} profiles are given; a model has at most {MAX_PROFILES}."
        )
    if not spec.profiles:
        return (_shapes(spec.input_shapes),)
    return tuple(_shapes(profile.input_shapes) for profile in spec.profiles)


def _shapes(message: Mapping[str, master_pb2.Shape]) -> Shapes:
    return {tensor: tuple(shape.dims) for tensor, shape in sorted(message.items())}
