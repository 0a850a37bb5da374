"""Runs a model split by a plan, in this process, and unsplit in onnxruntime: the judge of the compiler's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from flexpie.compiler import ImportedModel, import_model
from flexpie.core.plan import Plan
from flexpie.pipeline import Compiled, compile_plan
from flexpie.reference.comparing import Comparison, compare, random_inputs
from flexpie.worker.inprocess import InProcessCluster

Arrays = dict[str, npt.NDArray[Any]]


def imported(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> ImportedModel:
    """Import a model as from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        return import_model(path, shapes)


def run_unsplit(model: onnx.ModelProto, feeds: Arrays) -> Arrays | None:
    """What plain onnxruntime answers; None where it refuses the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        results = session.run(None, feeds)
    except Exception:
        return None
    return dict(zip((output.name for output in session.get_outputs()), results, strict=True))


def run_split(model: ImportedModel, plan: Plan, feeds: Arrays) -> tuple[Arrays, InProcessCluster]:
    """What the devices of a plan answer."""
    cluster = in_process(compile_plan(model, plan))
    return cluster.infer(feeds), cluster


def in_process(compiled: Compiled) -> InProcessCluster:
    """A compiled plan, loaded by devices in this process."""
    blobs = {sha256: bytes(blob.open()) for sha256, blob in compiled.blobs.items()}
    return InProcessCluster(compiled.programs, compiled.master, blobs)


def split_against_unsplit(model: onnx.ModelProto, imported_model: ImportedModel, plan: Plan) -> Comparison | None:
    """Compare both on random inputs; None where onnxruntime itself refuses the model."""
    feeds = random_inputs(imported_model.graph)
    expected = run_unsplit(model, feeds)
    if expected is None:
        return None
    with np.errstate(all="ignore"):
        return compare(expected, run_split(imported_model, plan, feeds)[0], plan.boundary)
