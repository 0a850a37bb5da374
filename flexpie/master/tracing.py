"""Traces of a model's requests: what every device that takes part did for each, as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.events import DeploymentId, DeviceName
from flexpie.master.links import WorkerLink
from flexpie.master.master import Master
from flexpie.wire.v1 import master_pb2, trace_pb2

_Item = tuple[DeviceName, trace_pb2.RequestTrace | None]
"""None: the device's traces have ended."""


async def model_traces(master: Master, name: str) -> AsyncGenerator[master_pb2.TraceModelReply, None]:
    """First the devices, once all of them record; then one answer for each request and device.

    Ends when the deployment does. Raises ``MODEL_NOT_FOUND``, ``MODEL_NOT_READY``, and what a device fails with.
    """
    serving = master.model(name).profiles[0].serving
    if serving is None or serving.plan is None:
        raise FlexPieError(ErrorCode.MODEL_NOT_READY, f"Model {name} is not ready.", "Look at `flexpie status`.")
    arrived: asyncio.Queue[_Item] = asyncio.Queue()
    reading = {
        device: asyncio.create_task(_read(device, master.links[device], serving.id, arrived))
        for device in serving.plan.participants
    }
    silent = set(reading)
    """Devices that have not said that they record."""
    try:
        while True:
            device, trace = await arrived.get()
            if trace is None:
                await reading[device]  # raises what it failed with
                if silent:
                    raise FlexPieError(ErrorCode.MODEL_NOT_READY, f"Model {name} has just ended on {device}.")
                return
            if not silent:
                yield master_pb2.TraceModelReply(device=device, trace=trace)
            elif device in silent:
                silent.remove(device)
                if not silent:
                    yield master_pb2.TraceModelReply(devices=reading)
    finally:
        for task in reading.values():
            task.cancel()
        await asyncio.gather(*reading.values(), return_exceptions=True)


async def _read(device: DeviceName, link: WorkerLink, deployment: DeploymentId, arrived: asyncio.Queue[_Item]) -> None:
    try:
        async with aclosing(link.traces(deployment)) as traces:
            async for trace in traces:
                arrived.put_nowait((device, trace))
    finally:
        arrived.put_nowait((device, None))
