"""Engines run ONNX files. This is the only home of onnxruntime."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.wire.opaque import Datum
from flexpie.wire.tensors import NUMPY_DTYPES, Array

ENGINE_VERSION: str = ort.__version__

_DETOURS = {
    ElementType.BFLOAT16: (16, 16),
    ElementType.FLOAT8E4M3FN: (17, 8),
    ElementType.FLOAT8E4M3FNUZ: (18, 8),
    ElementType.FLOAT8E5M2: (19, 8),
    ElementType.FLOAT8E5M2FNUZ: (20, 8),
    ElementType.UINT4: (21, 4),
    ElementType.INT4: (22, 4),
    ElementType.FLOAT4E2M1: (23, 4),
    ElementType.FLOAT8E8M0: (24, 8),
    ElementType.UINT2: (25, 2),
    ElementType.INT2: (26, 2),
}
"""Number in TensorProto.DataType, and bits of an element. numpy has no such types, so these tensors take a detour."""
_ELEMENT_TYPES = {
    "tensor(float)": ElementType.FLOAT32,
    "tensor(double)": ElementType.FLOAT64,
    **{f"tensor({kind.value})": kind for kind in ElementType if kind is not ElementType.OBJECT},
    **{f"tensor({kind.name.lower()})": kind for kind in _DETOURS},
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model."""

    name: str
    shape: tuple[int | None, ...]
    """None for a length that the file leaves open; empty where it leaves all of them open."""
    dtype: ElementType
    """`OBJECT` for a sequence, an optional or a map."""


class Interruption:
    """Ends a computation early, from another thread. Once it is set, whatever runs with it fails, now and later.

    onnxruntime looks at it between two operators, those in the bodies of Loop, Scan and If included. So an endless
    Loop ends at once, and what a single operator has begun is finished first.
    """

    def __init__(self) -> None:
        self._options = ort.RunOptions()
        self._options.log_severity_level = 4  # failures are raised, and reported where they are handled

    @property
    def options(self) -> Any:
        """The ``onnxruntime.RunOptions`` that carry it."""
        return self._options

    @property
    def is_set(self) -> bool:
        """Whether computations are to end."""
        return bool(self._options.terminate)

    def set(self) -> None:
        """End what runs with it."""
        self._options.terminate = True


class Session(Protocol):
    """A model that is loaded and ready to run."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """In the order in which `run` takes them."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """In the order in which `run` yields them."""

    def run(self, arrays: Sequence[Datum], interruption: Interruption | None = None) -> list[Datum]:
        """Outputs for these inputs; raises ``EXECUTION_FAILED``, also when it is interrupted."""


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
        self._threads = threads
        self._options = self._make_options()

    def _make_options(self) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 4  # failures are raised, and reported where they are handled
        # A subgraph may begin and end with int8 tensors. Without this, x86 computes the operators there on floats, with
        # other roundings than inside of a whole model.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves time to the network
        return options

    def load(self, model: Path | bytes) -> Session:
        """See `Engine.load`."""
        return _load(model if isinstance(model, bytes) else str(model), self._options)

    def load_profiled(self, model: Path, folder: Path) -> ProfiledSession:
        """A session like any other, that also notes how long each node takes; its files go into `folder`."""
        name = model.name
        options = self._make_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / f"{name}-profile")
        options.optimized_model_filepath = str(folder / f"{name}-optimised")
        # The weights, laid out anew, go to a file of their own: who reads the nodes leaves it alone.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{name}-weights")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        return ProfiledSession(_load(str(model), options), Path(options.optimized_model_filepath))


class OnnxRuntimeSession:
    """A model in onnxruntime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_port(node) for node in session.get_inputs())
        self.outputs = tuple(_port(node) for node in session.get_outputs())
        self._names = [port.name for port in self.outputs]
        self._plain = all(port.dtype not in _DETOURS for port in (*self.inputs, *self.outputs))

    def run(self, arrays: Sequence[Datum], interruption: Interruption | None = None) -> list[Datum]:
        """See `Session.run`."""
        feeds = dict(zip((port.name for port in self.inputs), arrays, strict=True))
        options = None if interruption is None else interruption.options
        try:
            outputs: list[Datum] = (
                self._session.run(self._names, feeds, options) if self._plain else self._run_with_values(feeds, options)
            )
        except Exception as error:  # onnxruntime raises many types
            raise _failed("onnxruntime failed to run a subgraph", error) from error
        return outputs

    def end_profiling(self) -> str:
        """The file with what was noted, where the session was made to note anything."""
        path: str = self._session.end_profiling()
        return path

    def _run_with_values(self, feeds: Mapping[str, Datum], options: Any) -> list[Datum]:
        values = {port.name: _to_ort(feeds[port.name], port.dtype) for port in self.inputs}
        results = self._session.run_with_ort_values(self._names, values, options)
        return [_from_ort(result, port.dtype) for port, result in zip(self.outputs, results, strict=True)]


def _load(source: str | bytes, options: Any) -> OnnxRuntimeSession:
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many types
        raise _failed("onnxruntime refused a model", error) from error
    return OnnxRuntimeSession(session)


@dataclass(frozen=True)
class Profile:
    """How long each node of a model took."""

    nodes: tuple[str, ...]
    """Names, in the order in which they run; onnxruntime makes one up for a node without."""
    op_types: tuple[str, ...]
    """Of the nodes, as onnxruntime runs them: a Conv may have a Relu in it."""
    tensors: tuple[int, ...]
    """How many each node reads and writes: the profiler writes down their shapes while its clock runs."""
    seconds: Array
    """Shape [runs, nodes]."""


class ProfiledSession:
    """A model in onnxruntime that notes how long its nodes take."""

    def __init__(self, session: OnnxRuntimeSession, optimised: Path) -> None:
        self.optimised = optimised
        """ONNX file of the nodes that really run, in their order."""
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.run = session.run
        self._session = session

    def finish(self) -> Profile:
        """Times of all runs so far, the last thing to ask a session for.

        onnxruntime writes whole microseconds and cuts off what is left; half of one is added here.
        """
        path = Path(self._session.end_profiling())
        # A line an event; one that is none opens the list, another closes it.
        events = [json.loads(line.rstrip().rstrip(",")) for line in path.read_text().splitlines() if "{" in line]
        path.unlink()
        ran = [event for event in events if event["cat"] == "Node" and event["name"].endswith(_KERNEL)]
        runs = sum(event["name"] == "model_run" for event in events)
        count = len(ran) // max(1, runs)
        seconds = np.array([event["dur"] + 0.5 for event in ran], dtype=np.float64) * 1e-6
        return Profile(
            nodes=tuple(event["name"].removesuffix(_KERNEL) for event in ran[:count]),
            op_types=tuple(event["args"]["op_name"] for event in ran[:count]),
            tensors=tuple(
                len(event["args"]["input_type_shape"]) + len(event["args"]["output_type_shape"])
                for event in ran[:count]
            ),
            seconds=seconds.reshape(runs, count),
        )


_KERNEL = "_kernel_time"


def run_unsplit(model: Path | bytes, feeds: Mapping[str, Datum], threads: int = 1) -> dict[str, Datum]:
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

    def run(self, arrays: Sequence[Datum], interruption: Interruption | None = None) -> list[Datum]:
        """See `Session.run`; refuses arrays that do not fit its inputs, as onnxruntime does."""
        if interruption is not None and interruption.is_set:
            raise FlexPieError(ErrorCode.EXECUTION_FAILED, "The fake engine was interrupted.")
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
    if not node.type.startswith(("tensor(", "sparse_tensor(")):
        return Port(node.name, (), ElementType.OBJECT)
    shape = tuple(length if isinstance(length, int) else None for length in node.shape or ())
    if node.type not in _ELEMENT_TYPES:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"{node.name} has the type {node.type}, which cannot cross a subgraph's border.",
        )
    return Port(node.name, shape, _ELEMENT_TYPES[node.type])


def _to_ort(array: Array, kind: ElementType) -> Any:
    if kind not in _DETOURS:
        return ort.OrtValue.ortvalue_from_numpy(array)
    number, bits = _DETOURS[kind]
    array = np.array(array, order="C")
    if bits < 8:  # several to a byte, the first in the lowest bits; what is left of the memory is not read
        flat, in_byte = array.reshape(-1), 8 // bits
        columns = np.zeros((-(-flat.size // in_byte), in_byte), np.uint8)
        columns.reshape(-1)[: flat.size] = flat & (1 << bits) - 1
        flat[: len(columns)] = np.bitwise_or.reduce(columns << np.arange(in_byte, dtype=np.uint8) * bits, axis=1)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, number)


def _from_ort(value: Any, kind: ElementType) -> Array:
    if kind not in _DETOURS:
        array: Array = value.numpy()
        return array
    bits, shape = _DETOURS[kind][1], tuple(value.shape())
    count = math.prod(shape)
    raw = np.empty(-(-count * bits // 8), np.uint8)
    if count:
        ctypes.memmove(raw.ctypes.data, value.data_ptr(), raw.nbytes)
    if bits < 8:
        columns = raw[:, None] >> np.arange(8 // bits, dtype=np.uint8) * bits & (1 << bits) - 1
        raw = columns.astype(np.uint8).reshape(-1)[:count]
    return raw.view(NUMPY_DTYPES[kind]).reshape(shape)


def _failed(what: str, error: Exception) -> FlexPieError:
    return FlexPieError(ErrorCode.EXECUTION_FAILED, f"{what}: {' '.join(str(error).split())}")
