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

MOST_WAITING = 100
"""Traces that the listener has not taken yet; then those of the workers wait, and are lost there one day."""

_Teller = tuple[DeploymentId, DeviceName]
_Item = tuple[_Teller, trace_pb2.RequestTrace | None]
"""None: the teller's traces have ended."""


async def model_traces(master: Master, name: str) -> AsyncGenerator[master_pb2.TraceModelReply, None]:
    """First an answer without a trace, once all devices record; then one answer for each request and device.

    Ends when one of the deployments does. Raises ``MODEL_NOT_FOUND``, ``MODEL_NOT_READY``, and what a device fails
    with.
    """
    serving = [(profile.serving, profile.serving.plan) for profile in master.model(name).profiles if profile.serving]
    taking_part = {deployment.id: plan.participants for deployment, plan in serving if plan}
    in_turn = {deployment.id for deployment, plan in serving if plan and plan.takes_turns}
    if not taking_part:
        raise FlexPieError(ErrorCode.MODEL_NOT_READY, f"Model {name} is not ready.", "Look at `flexpie status`.")
    arrived: asyncio.Queue[_Item] = asyncio.Queue(MOST_WAITING)
    reading = {
        (deployment, device): asyncio.create_task(_read((deployment, device), master.links[device], arrived))
        for deployment, devices in taking_part.items()
        for device in devices
    }
    silent = set(reading)
    """Those that have not said that they record."""
    try:
        while True:
            teller, trace = await arrived.get()
            deployment, device = teller
            if trace is None:
                await reading[teller]  # raises what it failed with
                if silent:
                    raise FlexPieError(ErrorCode.MODEL_NOT_READY, f"Model {name} has just ended on {device}.")
                return
            if not silent:
                devices = [device] if deployment in in_turn else taking_part[deployment]
                yield master_pb2.TraceModelReply(devices=devices, device=device, trace=trace)
            elif teller in silent:
                silent.remove(teller)
                if not silent:
                    yield master_pb2.TraceModelReply()
    finally:
        for task in reading.values():
            task.cancel()
        await asyncio.gather(*reading.values(), return_exceptions=True)


async def _read(teller: _Teller, link: WorkerLink, arrived: asyncio.Queue[_Item]) -> None:
    deployment, _ = teller
    failure: Exception | None = None
    try:
        async with aclosing(link.traces(deployment)) as traces:
            async for trace in traces:
                await arrived.put((teller, trace))
    except Exception as error:  # not where this is cancelled: then nobody takes anything any more
        failure = error
    await arrived.put((teller, None))
    if failure is not None:
        raise failure
