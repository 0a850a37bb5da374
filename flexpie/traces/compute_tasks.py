"""Collecting compute samples as tasks that any process can do, on this machine or on those of a Ray cluster."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flexpie.compiler import ImportedModel, import_model
from flexpie.traces.compute import Launch, MeasuredDevice, draw_plan, measure, this_device
from flexpie.traces.samples import ComputeSample


@dataclass(frozen=True)
class ComputeTask:
    """A plan to be drawn for a model and measured, on one of its devices."""

    model: Path
    """An ONNX file; on a cluster, at the same place on every machine."""
    shapes: Mapping[str, Sequence[int]]
    """Of the inputs whose dimensions the file leaves open."""
    seed: int
    device: str
    """Name of the kind of machine, unique for its speed."""
    threads: int


def compute_tasks(
    models: Sequence[tuple[Path, Mapping[str, Sequence[int]]]], device: str, threads: int, first_seed: int = 0
) -> Iterator[ComputeTask]:
    """Tasks without end: each model in turn, and every time another plan."""
    for seed in itertools.count(first_seed):
        for path, shapes in models:
            yield ComputeTask(path, shapes, seed, device, threads)


def launch_of(task: ComputeTask) -> str:
    """Name of what a task measures: equal for tasks that measure the same."""
    return f"{task.model.stem}/{task.seed}"


def collect(task: ComputeTask) -> list[ComputeSample]:
    """Do a task here, alone on as many cores as it has threads.

    Raises FlexPieError for a model that cannot be imported.
    """
    shapes = tuple((name, tuple(lengths)) for name, lengths in task.shapes.items())
    model = _model(task.model, shapes)
    rng = random.Random(f"{launch_of(task)}")
    plan = draw_plan(model.graph, rng)
    launch = Launch(launch_of(task), model, plan, rng.randrange(len(plan.devices)))
    return measure(launch, _device(task.device, task.threads))


@lru_cache(maxsize=8)
def _model(path: Path, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> ImportedModel:
    return import_model(path, dict(shapes))


@lru_cache(maxsize=1)
def _device(name: str, threads: int) -> MeasuredDevice:
    """This machine, measured once by each process."""
    return this_device(name, threads)
