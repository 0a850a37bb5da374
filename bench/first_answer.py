"""python -m bench.first_answer MODEL: ask a testbed's master until there is an answer, from the master's host.

Prints one JSON object: when that was (by the monotonic clock), and what the model took. For other benchmarks.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import click
import numpy as np

from flexpie import Client
from flexpie.core.errors import FlexPieError
from flexpie.testbed import MASTER, Testbed
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.routing import MASTER_ADDRESS, MASTER_PORT

ANSWER_SECONDS = 240.0
"""The first time a model is planned and pushed."""
_ASKING = re.compile("^asking$", re.MULTILINE)


@dataclass(frozen=True)
class FirstAnswer:
    """Of a model."""

    at: float
    """Seconds of the monotonic clock."""
    pushed_bytes: int
    resident_bytes: Mapping[str, int]
    """By device: what the model's weights and activations take there."""


def start_client(bed: Testbed, model: str) -> HostProcess:
    """Begin to ask; the master need not be there yet."""
    client = bed.start(MASTER, [sys.executable, "-m", "bench.first_answer", model], "client")
    client.wait_for(_ASKING, ANSWER_SECONDS)
    return client


def first_answer(client: HostProcess) -> FirstAnswer:
    """What the client found; ends the benchmark with its log where there was no answer."""
    if client.wait(ANSWER_SECONDS + 30) != 0:
        raise SystemExit(client.log)
    return FirstAnswer(**json.loads(client.log.splitlines()[-1]))


@click.command()
@click.argument("model")
def main(model: str) -> None:
    """Ask until there is an answer."""
    with Client(f"{MASTER_ADDRESS}:{MASTER_PORT}", timeout=ANSWER_SECONDS) as client:
        click.echo("asking")
        deadline = time.monotonic() + ANSWER_SECONDS
        while not _is_ready(client, model) and time.monotonic() < deadline:
            time.sleep(0.02)
        port = client.model(model).inputs[0]
        client.infer(model, {port.name: np.zeros(port.shape, np.float32)})
        answered, info = time.monotonic(), client.model(model)
        found = FirstAnswer(answered, info.pushed_bytes, dict(info.resident_bytes))
        click.echo(json.dumps(asdict(found)))


def _is_ready(client: Client, model: str) -> bool:
    try:
        return client.ready(model)
    except FlexPieError:  # it does not listen yet
        return False


if __name__ == "__main__":
    main()
