"""Clients on the master's host: each asks one request after the other and checks every answer.

python -m bench.chaos.asking TASK.json
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from bench.chaos.records import ANSWERED, HANGING, UNTYPED, WRONG, Request, write_requests
from bench.chaos.task import Arrays, Task, questions, read_task
from flexpie.client import AsyncClient
from flexpie.core.errors import FlexPieError
from flexpie.reference.comparing import compare

GRACE_SECONDS = 2.0
"""That a request may end after its deadline: clients share the machine with all others."""
READY_SECONDS = 180.0
RETRY_SECONDS = 0.2
"""Until a client asks again that was refused."""

Questions = dict[str, list[tuple[Arrays, Arrays]]]


def main() -> None:
    """Asks until the task's `stop` file is there; then writes every request to its output."""
    task = read_task(Path(sys.argv[1]))
    write_requests(Path(task.output), asyncio.run(_ask(task)))


async def _ask(task: Task) -> list[Request]:
    prepared = questions(Path(task.folder))
    async with AsyncClient(task.master) as client:
        deadline = time.monotonic() + READY_SECONDS
        while not all([await client.ready(name) for name in prepared]):
            if time.monotonic() > deadline:
                sys.exit("the models are not ready")
            await asyncio.sleep(0.1)
    sys.stdout.write("asking\n")
    sys.stdout.flush()
    found = await asyncio.gather(*(_client(task, number, prepared) for number in task.clients))
    return [request for requests in found for request in requests]


async def _client(task: Task, number: int, prepared: Questions) -> list[Request]:
    draw, stop, requests = random.Random(number), Path(task.stop), []
    async with AsyncClient(task.master, timeout=task.deadline_seconds) as client:
        while not stop.exists():
            name = draw.choice(list(prepared))
            inputs, expected = draw.choice(prepared[name])
            started = time.monotonic()
            outcome, message = await ask_once(client, name, inputs, expected, task.deadline_seconds)
            requests.append(Request(number, name, started, time.monotonic(), outcome, message))
            await asyncio.sleep(task.pause_seconds if outcome == ANSWERED else RETRY_SECONDS)
    return requests


async def ask_once(
    client: AsyncClient, name: str, inputs: Arrays, expected: Arrays, deadline_seconds: float
) -> tuple[str, str]:
    """Outcome and message of one request (see `Request`)."""
    try:
        answer = await asyncio.wait_for(client.infer(name, inputs), deadline_seconds + GRACE_SECONDS)
    except asyncio.TimeoutError:
        return HANGING, ""
    except FlexPieError as error:
        return error.code.value, str(error)
    except Exception as error:
        return UNTYPED, f"{type(error).__name__}: {error}"
    comparison = compare(expected, answer)
    return (ANSWERED, "") if comparison.equal else (WRONG, f"differs by {comparison.max_abs_error:g}")


if __name__ == "__main__":
    main()
