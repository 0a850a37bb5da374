"""The whole pure path, from a model file to the packages that devices run. Read it from top to bottom."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flexpie.compiler import Blob, ImportedModel, emit, import_model, lower, share_weights
from flexpie.core.cluster import Cluster
from flexpie.core.plan import Plan
from flexpie.core.program import DeviceProgram
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import PlanningResult, make_plan
from flexpie.planner.simulation import Simulation, simulate


@dataclass(frozen=True)
class Compiled:
    """What is pushed and run for a plan."""

    plan: Plan
    master: DeviceProgram
    programs: tuple[DeviceProgram | None, ...]
    """One per device of the plan; None for a device that takes no part."""
    blobs: Mapping[str, Blob]
    """Everything that the programs' subgraphs refer to, by SHA-256."""


def import_file(
    path: Path,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    twin: ImportedModel | None = None,
) -> ImportedModel:
    """ONNX file → layer graph with its nodes and weights, shared with those of `twin`: the same file with other
    input shapes."""
    model = import_model(path, input_shapes, name)
    return model if twin is None else share_weights(model, twin)


def plan_model(model: ImportedModel, cluster: Cluster, scheme: str = "auto") -> PlanningResult:
    """Layer graph and cluster → plan."""
    with _rare_garbage_collection():
        return make_plan(model.graph, cluster, scheme=scheme)


def simulate_plan(
    model: ImportedModel,
    cluster: Cluster,
    plan: Plan,
    *,
    requests: int = 1,
    in_flight: int = 1,
    jitter: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """Plan → what the cluster would do with requests; see `flexpie.planner.simulation.simulate`."""
    cost_model = PhysicsCostModel(cluster)
    return simulate(
        model.graph,
        cluster,
        plan.segments,
        cost_model,
        requests=requests,
        in_flight=in_flight,
        jitter=jitter,
        seed=seed,
    )


def compile_plan(model: ImportedModel, plan: Plan) -> Compiled:
    """Plan → programs with their ONNX subgraphs and weights."""
    lowered = lower(model.graph, plan)
    programs, blobs = emit(model, lowered)
    return Compiled(plan, lowered.master, programs, blobs)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """The planner makes millions of small tuples, none in a cycle; to look for cycles is a fifth of its time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
