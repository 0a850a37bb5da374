"""The whole pure path, from a model file to the packages that devices run. Read it from top to bottom."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flexpie.compiler import Blob, ImportedModel, emit, import_model, lower, share_weights
from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.plan import Plan
from flexpie.core.program import DeviceProgram
from flexpie.planner.comparison import Comparison, compare
from flexpie.planner.estimator import default_cost_model
from flexpie.planner.plan_file import plan_from_json, plan_to_json
from flexpie.planner.planning import PlanningResult, plan_given
from flexpie.planner.rooms import plan_with_room
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


def plan_model(
    model: ImportedModel,
    cluster: Cluster,
    scheme: str = "auto",
    objective: str = "latency",
    siblings: Sequence[ImportedModel] = (),
    boundary: Boundary = Boundary.FLOAT32,
) -> PlanningResult:
    """Layer graph and cluster → plan; where devices have memory limits, one that leaves room for the plans of
    `siblings`, if there is one. All of them have the same `boundary`."""
    with _rare_garbage_collection():
        graph, *graphs = (item.graph.with_boundary(boundary) for item in (model, *siblings))
        return plan_with_room(graph, graphs, cluster, scheme=scheme, objective=objective)


def read_plan(text: str, model: ImportedModel, cluster: Cluster) -> Plan:
    """Text of a plan file → plan, verified against the model and the cluster."""
    return plan_from_json(text, model.graph, cluster)


def write_plan(model: ImportedModel, cluster: Cluster, plan: Plan) -> str:
    """Plan → text of a plan file."""
    return plan_to_json(model.graph, cluster, plan)


def predict_plan(model: ImportedModel, cluster: Cluster, plan: Plan) -> PlanningResult:
    """Given plan → the same with what it is predicted to cost."""
    return plan_given(model.graph.with_boundary(plan.boundary), cluster, plan)


def compare_plan(model: ImportedModel, cluster: Cluster, plan: Plan, others: Sequence[Plan] = ()) -> Comparison:
    """Plan → what else could have been done; see `flexpie.planner.comparison.compare`."""
    with _rare_garbage_collection():
        graph = model.graph.with_boundary(plan.boundary)
        return compare(graph, cluster, plan, default_cost_model(cluster), others)


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
    cost_model = default_cost_model(cluster)
    return simulate(
        model.graph.with_boundary(plan.boundary),
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
