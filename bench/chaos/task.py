"""What the processes on the master's host are told, and the models and inputs that they ask with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import flexpie_models
from flexpie.reference.unsplit import UnsplitModel

INPUTS = 8
"""Different inputs of each model: an answer to another request is a wrong one."""
BATCH = 8
TOKENS = 16

Arrays = dict[str, npt.NDArray[Any]]

MODELS_YAML = f"""models:
- {{path: digits.onnx, scheme: InH, input_shapes: {{image: [{BATCH}, 1, 8, 8]}}}}
- {{path: bert_tiny.onnx, scheme: OutC}}
"""
"""For the cluster file: divided by rows, and by channels; each device has a part of each layer."""
MODELS = ("digits", "bert_tiny")


@dataclass(frozen=True)
class Task:
    """What to ask, and where."""

    master: str
    """``host:port``."""
    workers: dict[str, str]
    """``host:port`` by device."""
    folder: str
    """With the models' files."""
    clients: tuple[int, ...]
    """Numbers of the clients that a process is."""
    deadline_seconds: float
    pause_seconds: float
    """Between an answer and the next request of a client."""
    stop: str
    """File that is there when asking is to end."""
    output: str
    """File for what came of it."""

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))


def read_task(path: Path) -> Task:
    """The reverse of `Task.write`."""
    words = json.loads(path.read_text())
    return Task(**{**words, "clients": tuple(words["clients"])})


def write_models(folder: Path) -> None:
    """The files that `MODELS_YAML` names."""
    (folder / "digits.onnx").write_bytes(flexpie_models.build("digits").SerializeToString())
    bert = flexpie_models.build("bert_tiny", sequence_length=TOKENS)
    (folder / "bert_tiny.onnx").write_bytes(bert.SerializeToString())


def questions(folder: Path) -> dict[str, list[tuple[Arrays, Arrays]]]:
    """Inputs of each model, and what unsplit onnxruntime answers."""
    draw = np.random.default_rng(11)
    found: dict[str, list[tuple[Arrays, Arrays]]] = {}
    for name in MODELS:
        unsplit = UnsplitModel(folder / f"{name}.onnx")
        inputs = [_digits(draw) if name == "digits" else _tokens(draw) for _ in range(INPUTS)]
        found[name] = [(arrays, unsplit.run(arrays)[0]) for arrays in inputs]
    return found


def _digits(draw: np.random.Generator) -> Arrays:
    return {"image": draw.random((BATCH, 1, 8, 8), dtype=np.float32)}


def _tokens(draw: np.random.Generator) -> Arrays:
    shape = (1, TOKENS)
    return {
        "input_ids": draw.integers(0, 1000, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
