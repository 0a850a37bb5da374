"""Engines run ONNX files. This is the only home of onnxruntime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.wire.tensors import NUMPY_DTYPES, Array

ENGINE_VERSION: str = ort.__version__

_BFLOAT16 = 16
"""Of TensorProto.DataType; numpy has no such type, so these tensors take a detour."""
_ELEMENT_TYPES = {
    "tensor(float)": ElementType.FLOAT32,
    "tensor(double)": ElementType.FLOAT64,
    **{f"tensor({kind.value})": kind for kind in ElementType},
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model."""

    name: str
    shape: tuple[int | None, ...]
    """None for a length that the file leaves open."""
    dtype: ElementType


class Session(Protocol):
    """A model that is loaded and ready to run."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """In the order in which `run` takes them."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """In the order in which `run` yields them."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Outputs for these inputs; raises ``EXECUTION_FAILED``."""


class Engine(Protocol):
    """Loads models."""

    def load(self, model: Path | bytes) -> Session:
        """A session for an ONNX file, whose external data lies in the same folder, or for a file's bytes.

        Raises ``EXECUTION_FAILED`` when the engine refuses the model.
        """


class OnnxRuntimeEngine:
    """onnxruntime on the CPU. Loads no library of custom operators."""

    def __init__(self, threads: int = 1) -> None:
        """`threads` is the number of threads that run one operator."""
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        self._options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._options.log_severity_level = 4  # failures are raised, and reported where they are handled
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves time to the network

    def load(self, model: Path | bytes) -> Session:
        """See `Engine.load`."""
        source = model if isinstance(model, bytes) else str(model)
        try:
            session = ort.InferenceSession(source, self._options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many types
            raise _failed("onnxruntime refused a model", error) from error
        return OnnxRuntimeSession(session)


class OnnxRuntimeSession:
    """A model in onnxruntime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_port(node) for node in session.get_inputs())
        self.outputs = tuple(_port(node) for node in session.get_outputs())
        self._names = [port.name for port in self.outputs]
        self._plain = all(port.dtype is not ElementType.BFLOAT16 for port in (*self.inputs, *self.outputs))

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """See `Session.run`."""
        feeds = dict(zip((port.name for port in self.inputs), arrays, strict=True))
        try:
            outputs: list[Array] = (
                self._session.run(self._names, feeds) if self._plain else self._run_with_values(feeds)
            )
        except Exception as error:  # onnxruntime raises many types
            raise _failed("onnxruntime failed to run a subgraph", error) from error
        return outputs

    def _run_with_values(self, feeds: Mapping[str, Array]) -> list[Array]:
        kinds = {port.name: port.dtype for port in self.inputs}
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _BFLOAT16)
            if kinds[name] is ElementType.BFLOAT16
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in feeds.items()
        }
        results = self._session.run_with_ort_values(self._names, values)
        return [
            _bits(result) if port.dtype is ElementType.BFLOAT16 else result.numpy()
            for port, result in zip(self.outputs, results, strict=True)
        ]


def run_unsplit(model: Path | bytes, feeds: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
    """What onnxruntime alone answers: outputs by name. The reference that a split run is compared with."""
    session = OnnxRuntimeEngine(threads).load(model)
    missing = [port.name for port in session.inputs if port.name not in feeds]
    if missing:
        raise FlexPieError(ErrorCode.INVALID_INPUT, f"The input {missing[0]} is missing.")
    outputs = session.run([feeds[port.name] for port in session.inputs])
    return dict(zip((port.name for port in session.outputs), outputs, strict=True))


@dataclass(frozen=True)
class FakeModel:
    """A model of the fake engine: a Python function between ports."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    function: Callable[[Sequence[Array]], Sequence[Array]]


class FakeEngine:
    """An engine without onnxruntime, for tests."""

    def __init__(self, models: Mapping[bytes, FakeModel]) -> None:
        """`models` tells what each file's content stands for; any other file is refused like a broken one."""
        self._models = models

    def load(self, model: Path | bytes) -> Session:
        """See `Engine.load`."""
        content = model if isinstance(model, bytes) else model.read_bytes()
        if content not in self._models:
            raise FlexPieError(ErrorCode.EXECUTION_FAILED, "The fake engine refused a model: it is unknown.")
        return FakeSession(self._models[content])


class FakeSession:
    """A model that the fake engine has loaded."""

    def __init__(self, model: FakeModel) -> None:
        self.inputs = model.inputs
        self.outputs = model.outputs
        self._function = model.function

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """See `Session.run`; refuses arrays that do not fit its inputs, as onnxruntime does."""
        for port, array in zip(self.inputs, arrays, strict=True):
            fits = len(port.shape) == array.ndim and all(
                length in (None, actual) for length, actual in zip(port.shape, array.shape, strict=True)
            )
            if not fits or array.dtype != NUMPY_DTYPES[port.dtype]:
                raise FlexPieError(ErrorCode.EXECUTION_FAILED, f"The fake engine failed: {port.name} does not fit.")
        try:
            return list(self._function(arrays))
        except Exception as error:
            raise _failed("The fake engine failed", error) from error


def _port(node: Any) -> Port:
    shape = tuple(length if isinstance(length, int) else None for length in node.shape)
    if node.type not in _ELEMENT_TYPES:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"{node.name} has the type {node.type}, which cannot cross a subgraph's border.",
        )
    return Port(node.name, shape, _ELEMENT_TYPES[node.type])


def _bits(value: Any) -> Array:
    """The bit patterns of a bfloat16 tensor."""
    array = np.empty(value.shape(), np.uint16)
    if array.size:
        ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
    return array


def _failed(what: str, error: Exception) -> FlexPieError:
    return FlexPieError(ErrorCode.EXECUTION_FAILED, f"{what}: {' '.join(str(error).split())}")
