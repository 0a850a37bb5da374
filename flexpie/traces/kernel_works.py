"""Calibration kernels as works that a worker can run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flexpie.compiler import Blob, emit, import_model, lower
from flexpie.compiler.kernels import kernel_model
from flexpie.core.plan import Plan, Segment
from flexpie.core.program import Run
from flexpie.core.scheme import single
from flexpie.traces.programs import Work


def kernel_work(name: str, steps: int) -> tuple[Work, dict[str, Blob]]:
    """A chain of a kernel (`flexpie.compiler.kernels`), compiled like any model, and the blobs that it refers to."""
    with tempfile.TemporaryDirectory(prefix="flexpie-") as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(kernel_model(name, steps).SerializeToString())
        model = import_model(path)
    segment = Segment(0, len(model.graph.layers), single(0), (1.0,))
    lowered = lower(model.graph, Plan(model.graph.signature, ("device",), (segment,)))
    (program,), blobs = emit(model, lowered)
    assert program is not None, "the only device runs the kernel"
    (run,) = (step for step in program.steps if isinstance(step, Run))
    (fed,), (yielded,) = run.inputs, run.outputs
    return Work(program.subgraphs[0], program.values[fed], program.values[yielded]), dict(blobs)
