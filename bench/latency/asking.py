"""On the master's host: loads one model once per strategy, and asks all of them in turn.

python -m bench.latency.asking TASK.json RESULT.json
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.latency.records import ALONE
from flexpie.client import Client
from flexpie.core.errors import FlexPieError

SECONDS = 300.0
"""Deadline of each call."""


@dataclass(frozen=True)
class Task:
    """What to ask."""

    master: str
    model: str
    """Path of the ONNX file."""
    inputs: str
    """Path of an .npz file: arrays by input name."""
    expected: str
    """Path of an .npz file: what unsplit onnxruntime yields, by output name."""
    strategies: tuple[str, ...]
    rounds: int
    requests: int
    """Of each strategy in each round."""
    listen: str
    """``host:port`` for the device that runs the model alone; empty for none."""
    loaded: str
    """File that is made when all is loaded; asking begins when it is gone."""


@dataclass
class Answer:
    """What came of one strategy."""

    predicted_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    difference: float = 0.0
    failure: str = ""


def main() -> None:
    """Reads the task, writes the answers by strategy."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    answers = ask(task)
    Path(sys.argv[2]).write_text(json.dumps({name: asdict(answer) for name, answer in answers.items()}))


def ask(task: Task) -> dict[str, Answer]:
    """Load, warm up, and measure in turn: neighbouring rounds see the same machine."""
    inputs, expected = dict(np.load(task.inputs)), dict(np.load(task.expected))
    answers = {name: Answer() for name in task.strategies}
    with ExitStack() as stack:
        client = stack.enter_context(Client(task.master, timeout=SECONDS))
        alone = stack.enter_context(_alone(task.listen)) if task.listen else None
        for name, answer in answers.items():
            if name != ALONE:
                _load(client, task.model, name, answer)
        marker = Path(task.loaded)
        marker.touch()
        while marker.exists():
            time.sleep(0.05)
        for turn in range(task.rounds + 1):
            for name, answer in answers.items():
                if answer.failure:
                    continue
                if name == ALONE:
                    assert alone is not None
                    seconds = _run_alone(alone, task.requests)
                else:
                    seconds = _run(client, name, inputs, expected, task.requests, answer)
                if turn:  # the first one warms up
                    answer.seconds += seconds
        if alone is not None:
            alone.send_bytes(b"0")
        for name, answer in answers.items():
            if name != ALONE and not answer.failure:
                client.unload(name)
    return answers


def _alone(address: str) -> Connection:
    host, port = address.rsplit(":", 1)
    with Listener((host, int(port))) as listener:
        return listener.accept()


def _load(client: Client, model: str, strategy: str, answer: Answer) -> None:
    try:
        answer.predicted_seconds = client.load(model, name=strategy, scheme=strategy).predicted_seconds
    except FlexPieError as error:
        answer.failure = str(error)


def _run_alone(connection: Connection, count: int) -> list[float]:
    connection.send_bytes(json.dumps(count).encode())
    return [float(value) for value in json.loads(connection.recv_bytes())]


def _run(
    client: Client,
    name: str,
    inputs: dict[str, npt.NDArray[np.float32]],
    expected: dict[str, npt.NDArray[np.float32]],
    count: int,
    answer: Answer,
) -> list[float]:
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        outputs = client.infer(name, inputs)
        seconds.append(time.perf_counter() - start)
    for key, wanted in expected.items():
        scale = float(np.abs(wanted).max()) or 1.0
        answer.difference = max(answer.difference, float(np.abs(outputs[key] - wanted).max()) / scale)
    return seconds


if __name__ == "__main__":
    main()
