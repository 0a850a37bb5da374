"""What is left when all faults are mended: asked on the master's host.

python -m bench.chaos.afterwards TASK.json
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import grpc

from bench.chaos.asking import ask_once
from bench.chaos.records import ANSWERED, Afterwards
from bench.chaos.task import Task, questions, read_task
from flexpie.client import AsyncClient
from flexpie.client.types import MasterStatus
from flexpie.core.errors import FlexPieError
from flexpie.wire.v1 import worker_pb2, worker_pb2_grpc

RECOVERY_SECONDS = 60.0
"""That everything may take to be well again."""
IDLE_SECONDS = 10.0
"""That the last request may take to be forgotten by everybody."""
_POLL_SECONDS = 0.1


def main() -> None:
    """Writes `Afterwards` as JSON to the task's output."""
    task = read_task(Path(sys.argv[1]))
    Path(task.output).write_text(json.dumps(asdict(asyncio.run(_look(task)))))


async def _look(task: Task) -> Afterwards:
    prepared = questions(Path(task.folder))
    async with AsyncClient(task.master, timeout=task.deadline_seconds) as client:
        recovered, status = await _recovered(client)
        asked = [(name, *prepared[name][number % len(prepared[name])]) for name in prepared for number in task.clients]
        found = await asyncio.gather(*(ask_once(client, *words, task.deadline_seconds) for words in asked))
        in_flight = await _idle(client, task.workers)
    right = sum(outcome == ANSWERED for outcome, _ in found)
    states = {device.name: device.state for device in status.devices} if status else {}
    return Afterwards(recovered, states, in_flight, right, len(asked))


async def _recovered(client: AsyncClient) -> tuple[float | None, MasterStatus | None]:
    """How long it took until all is well, and what the master said at last."""
    started, status = time.monotonic(), None
    while time.monotonic() < started + RECOVERY_SECONDS:
        try:
            status = await client.status()
        except FlexPieError:
            pass
        else:
            connected = all(device.state == "connected" for device in status.devices)
            if connected and status.models and all(model.state == "ready" for model in status.models):
                return time.monotonic() - started, status
        await asyncio.sleep(_POLL_SECONDS)
    return None, status


async def _idle(client: AsyncClient, workers: dict[str, str]) -> dict[str, int]:
    """What is in flight when nobody asks; waits until that is nothing, for some time."""
    deadline = time.monotonic() + IDLE_SECONDS
    while True:
        found = {"master": (await client.status()).requests_in_flight}
        found |= {name: await _in_flight(address) for name, address in workers.items()}
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


async def _in_flight(address: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        status = await stub.WorkerStatus(worker_pb2.WorkerStatusRequest(), timeout=10.0)
    return sum(deployment.requests_in_flight for deployment in status.deployments)


if __name__ == "__main__":
    main()
