"""From the blobs of a program to warm sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import DeviceProgram, Run, SubgraphRef
from flexpie.core.tensor import ElementType
from flexpie.wire.onnx_files import external_locations
from flexpie.wire.tensors import NUMPY_DTYPES, Array
from flexpie.worker.engine import Engine, Interruption, Session
from flexpie.worker.execution import check_session
from flexpie.worker.refusals import explained


def load_sessions(program: DeviceProgram, folder: Path, engine: Engine) -> tuple[Session, ...]:
    """One session for each subgraph of a program, from the files named by hash in `folder`.

    Raises ``CORRUPT_PACKAGE`` for a file that is missing, that refers to other files than its declared weights, or
    that does not fit the program; ``EXECUTION_FAILED`` where the engine refuses it.
    """
    sessions = tuple(_load(subgraph, folder, engine) for subgraph in program.subgraphs)
    for run in _runs(program):
        check_session(program, run, sessions[run.subgraph])
    return sessions


def warm_sessions(
    program: DeviceProgram, sessions: Sequence[Session], interruption: Interruption | None = None
) -> None:
    """Run every subgraph once on zeros, so that the first request finds memory allocated and code loaded.

    A subgraph may reject zeros (an index out of range, say), or never end with them (and be interrupted): that is no
    reason to refuse the program. Nothing tells what an opaque input may look like, so a subgraph that has one is not
    run.
    """
    for run in _runs(program):
        if any(program.values[value].opaque for value in run.inputs):
            continue
        try:
            sessions[run.subgraph].run([_zeros(program, value) for value in run.inputs], interruption)
        except FlexPieError as error:
            if error.code is not ErrorCode.EXECUTION_FAILED:
                raise


def _load(subgraph: SubgraphRef, folder: Path, engine: Engine) -> Session:
    path = folder / subgraph.model.sha256
    declared = {weight.sha256 for weight in subgraph.weights}
    missing = [name for name in (subgraph.model.sha256, *declared) if not (folder / name).is_file()]
    if missing:
        raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"Subgraph {subgraph.name} lacks the blob {min(missing)}.")
    content = path.read_bytes()
    foreign = _files_of(content) - declared
    if foreign:
        raise FlexPieError(
            ErrorCode.CORRUPT_PACKAGE,
            f"Subgraph {subgraph.name} refers to the file {min(foreign)!r}, which is none of its weights.",
        )
    try:
        return engine.load(path)
    except FlexPieError as error:
        raise explained(error, subgraph.name, content) from error


def _files_of(model: bytes) -> set[str]:
    """The files that a subgraph refers to, whatever the engine would make of them."""
    try:
        return set(external_locations(memoryview(model)))
    except ValueError as error:
        raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, f"A subgraph is not an ONNX file: {error}.") from error


def _runs(program: DeviceProgram) -> list[Run]:
    """The steps that run something, each once: a program that measures does the same again and again."""
    return list(dict.fromkeys(step for step in program.steps if isinstance(step, Run)))


def _zeros(program: DeviceProgram, index: int) -> Array:
    value = program.values[index]
    if value.dtype is ElementType.STRING:
        return np.full(value.region.shape, "", dtype=object)
    return np.zeros(value.region.shape, NUMPY_DTYPES[value.dtype])
