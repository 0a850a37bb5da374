"""What each strategy would do in a cell: its plan, what that is predicted to take, and how long planning took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flexpie import pipeline
from flexpie.benchmark.cells import ALONE, OURS, OURS_FLOAT16, Cell
from flexpie.benchmark.model_files import ModelFiles
from flexpie.benchmark.records import Planned, Simulated
from flexpie.benchmark.tracing import simulated_segment_seconds
from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Objective, Plan
from flexpie.core.strategy import SINGLE_DEVICE
from flexpie.master.cluster_file import read_cluster_file
from flexpie.testbed.cluster_file import cluster_file_text

REFUSED = frozenset({ErrorCode.OUT_OF_MEMORY, ErrorCode.INVALID_PLAN, ErrorCode.UNSUPPORTED_MODEL})
"""What a strategy may be refused with, without a mistake of anybody."""
_REQUESTS = 40
"""Simulated, where several are in flight."""


@dataclass(frozen=True)
class Strategy:
    """A strategy's plan."""

    text: str
    """Of the plan file; empty for `ALONE`."""
    plan: Plan
    predicted_seconds: float
    planning_seconds: float
    """Processor time."""

    def record(self, cell: Cell, name: str) -> Planned:
        """For the file of results."""
        return Planned(
            cell, name, self.predicted_seconds, self.planning_seconds, len(self.plan.segments),
            len(self.plan.participants),
        )  # fmt: skip


def cluster_of(cell: Cell, folder: Path) -> Cluster:
    """The cluster of a cell that no testbed holds: its shares of a reference core, its bandwidth."""
    path = folder / "cluster.yaml"
    path.write_text(cluster_file_text(cell.ground.description))
    return read_cluster_file(path, with_calibration=False).cluster


def plan_strategies(
    cell: Cell, files: ModelFiles, cluster: Cluster, names: Sequence[str]
) -> tuple[dict[str, Strategy], dict[str, str]]:
    """Plans by strategy, and reasons of those that have none. `ALONE` is among the plans, without one to deploy."""
    plans: dict[str, Strategy] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            plans[name] = _plan(cell, files, cluster, name)
        except FlexPieError as error:
            if error.code not in REFUSED:
                raise
            refused[name] = str(error)
    return plans, refused


def simulate_strategies(cell: Cell, files: ModelFiles, cluster: Cluster, plans: Mapping[str, Strategy],
                        reason: str) -> list[Simulated]:  # fmt: skip
    """What the strategies would take; `ALONE` only computes."""
    found = []
    for name, strategy in plans.items():
        requests = _REQUESTS if cell.in_flight > 1 else 1
        result = pipeline.simulate_plan(
            files.imported, cluster, strategy.plan, requests=requests, in_flight=cell.in_flight
        )
        seconds = result.latency
        if name == ALONE:
            device = strategy.plan.participants[0]
            seconds = sum(row[device].computing for row in result.times)
        rate = 1 / seconds if name == ALONE else result.throughput
        layers = simulated_segment_seconds(result) if requests == 1 and name != ALONE else ()
        found.append(Simulated(cell, name, seconds, rate, reason, tuple(round(value, 7) for value in layers)))
    return found


def _plan(cell: Cell, files: ModelFiles, cluster: Cluster, name: str) -> Strategy:
    ours = name in (OURS, OURS_FLOAT16)
    scheme = OURS if ours else SINGLE_DEVICE if name == ALONE else name
    objective = Objective.THROUGHPUT if ours and cell.in_flight > 1 else Objective.LATENCY
    boundary = Boundary.FLOAT16 if name == OURS_FLOAT16 else Boundary.FLOAT32
    begin = time.process_time()
    result = pipeline.plan_model(files.imported, cluster, scheme, objective.value, boundary=boundary)
    spent = time.process_time() - begin
    if name == ALONE:
        return Strategy("", result.plan, 0.0, 0.0)
    text = pipeline.write_plan(files.imported, cluster, result.plan)
    return Strategy(text, result.plan, result.latency_seconds, spent)
