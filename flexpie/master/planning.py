"""The pure path from a file to programs (`flexpie.pipeline`), as the master uses it.

It is imported when a model is first planned: that takes longer than all else that a master does before it answers, and
one that goes on with the deployments of an earlier run answers without it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.plan import Plan

if TYPE_CHECKING:
    from flexpie.compiler import ImportedModel
    from flexpie.pipeline import Compiled
    from flexpie.planner.planning import PlanningResult

_NEEDED = ("onnx", "onnx_ir", "onnxscript")
"""Packages that a worker is installed without."""


class Pipeline(Protocol):
    """The pure path from a file to programs: `flexpie.pipeline`."""

    def import_file(
        self,
        path: Path,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        name: str | None = None,
        twin: ImportedModel | None = None,
    ) -> ImportedModel:
        """ONNX file → layer graph; `twin` is the same file with other input shapes, to share weights with."""

    def plan_model(
        self,
        model: ImportedModel,
        cluster: Cluster,
        scheme: str = "auto",
        objective: str = "latency",
        siblings: Sequence[ImportedModel] = (),
        boundary: Boundary = Boundary.FLOAT32,
    ) -> PlanningResult:
        """Layer graph and cluster → plan that leaves room for the siblings' where it can."""

    def read_plan(self, text: str, model: ImportedModel, cluster: Cluster) -> Plan:
        """Text of a plan file → plan."""

    def predict_plan(self, model: ImportedModel, cluster: Cluster, plan: Plan) -> PlanningResult:
        """Given plan → the same with what it is predicted to cost."""

    def write_plan(self, model: ImportedModel, cluster: Cluster, plan: Plan) -> str:
        """Plan → text of a plan file."""

    def compile_plan(self, model: ImportedModel, plan: Plan) -> Compiled:
        """Plan → programs."""


def check_installed() -> None:
    """Raise ModuleNotFoundError where what planning needs is not installed."""
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _Later:
    """Has every function of `flexpie.pipeline`; the first one that is called imports it."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module("flexpie.pipeline"), name)(*args, **kwargs)

        return call


PIPELINE = cast(Pipeline, _Later())
"""To be called in threads: it may take long."""
