"""FlexPie as a backend in the sense of `onnx.backend`: a model runs split over devices in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from flexpie.compiler import Lowered, emit, import_model, lower
from flexpie.core.graph import LayerGraph
from flexpie.core.scheme import IN_H, SPLITTING, Scheme, owned_regions
from flexpie.core.tensor import ElementType
from flexpie.worker.engine import OnnxRuntimeEngine, Session
from flexpie.worker.inprocess import InProcessCluster
from tests.random_plans import forced_plan

DEVICES = 3

Choice = Scheme | Callable[[LayerGraph], Scheme]
"""A scheme, or how to choose one by the graph."""


class FlexPieBackend(Backend):
    """Splits every model by a forced plan."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> SplitModel:
        """See `split_model`, which takes `kwargs`."""
        return split_model(model, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device == "CPU"


@dataclass
class SplitModel(BackendRep):
    """A model that is ready to run on its devices."""

    graph: LayerGraph
    cluster: InProcessCluster
    scheme: Scheme
    divided: bool
    """Whether a split truly takes place."""

    def run(self, inputs: Sequence[Any], **kwargs: Any) -> tuple[Any, ...]:
        """Outputs for these inputs, in the types of the suite."""
        feeds = {name: carried(value) for name, value in zip(self.graph.inputs, inputs, strict=False)}
        outputs = self.cluster.infer(feeds)
        return tuple(uncarried(outputs[name], self.graph.tensors[name].dtype) for name in self.graph.outputs)


def split_model(
    model: onnx.ModelProto,
    *,
    scheme: Choice = IN_H,
    layers_per_segment: int = 1,
    devices: int = DEVICES,
    inputs: Sequence[Any] = (),
) -> SplitModel:
    """Import, cut and load a model. The shapes of `inputs` are those of open dimensions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        imported = import_model(path, _open_shapes(model, inputs))
    chosen = scheme if isinstance(scheme, Scheme) else scheme(imported.graph)
    lowered = lower(imported.graph, forced_plan(imported.graph, devices, chosen, layers_per_segment))
    programs, blobs = emit(imported, lowered)
    contents = {sha256: bytes(blob.open()) for sha256, blob in blobs.items()}
    cluster = InProcessCluster(programs, lowered.master, contents)
    return SplitModel(imported.graph, cluster, chosen, divides_work(imported.graph, lowered))


class UnsplitModel:
    """The same model in plain onnxruntime."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session: Session = OnnxRuntimeEngine().load(model.SerializeToString())

    def run(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Outputs for these inputs, in the types of the suite."""
        outputs = self._session.run([carried(value) for value in inputs])
        return tuple(uncarried(value, port.dtype) for value, port in zip(outputs, self._session.outputs, strict=True))


def schemes_that_divide(graph: LayerGraph, devices: int = DEVICES) -> list[Scheme]:
    """The schemes under which several devices own parts of some tensor that an operator yields."""
    shapes = {graph.tensors[name].shape for layer in graph.layers for name in layer.produced}
    shares = [1.0] * devices
    return [
        scheme
        for scheme in SPLITTING
        if any(devices - owned_regions(scheme, shape, shares).count(None) > 1 for shape in shapes)
    ]


def divides_work(graph: LayerGraph, lowered: Lowered) -> bool:
    """Whether several devices compute some operator, none of them all of it."""
    parts: dict[str, int] = {}
    whole: set[str] = set()
    for subgraphs in lowered.subgraphs:
        for part in (part for subgraph in subgraphs for part in subgraph.parts):
            parts[part.operator.name] = parts.get(part.operator.name, 0) + 1
            if all(region is None or region == graph.tensors[name].whole
                   for name, region in zip(part.operator.outputs, part.produced, strict=True)):  # fmt: skip
                whole.add(part.operator.name)
    return any(count > 1 and name not in whole for name, count in parts.items())


_FOREIGN = {kind: np.dtype(getattr(ml_dtypes, kind.value)) for kind in ElementType if hasattr(ml_dtypes, kind.value)}
_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


def carried(value: Any) -> Any:
    """An array as FlexPie carries it: bit patterns instead of ml_dtypes' types."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "U":
        return value.astype(object)
    if value.dtype in _FOREIGN.values():
        bits = value.view(f"uint{8 * value.dtype.itemsize}")
        return bits & ((1 << _BITS[value.dtype.name]) - 1) if value.dtype.name in _BITS else bits
    return value


def uncarried(value: Any, kind: ElementType) -> Any:
    """The reverse of `carried`."""
    if kind not in _FOREIGN or not isinstance(value, np.ndarray):
        return value
    if kind in {ElementType.INT4, ElementType.INT2}:
        half = 1 << _BITS[kind.value] - 1
        return ((value.astype(np.int8) ^ half) - half).astype(_FOREIGN[kind])
    return value.view(_FOREIGN[kind]) if kind.value not in _BITS else value.astype(_FOREIGN[kind])


def _open_shapes(model: onnx.ModelProto, inputs: Sequence[Any]) -> dict[str, tuple[int, ...]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    infos = [info for info in model.graph.input if info.name not in weights]
    return {
        info.name: value.shape
        for info, value in zip(infos, inputs, strict=False)
        if isinstance(value, np.ndarray)
        and info.type.tensor_type.HasField("shape")
        and any(not dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim)
    }
