"""What is known of a model after import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from flexpie.core.graph import LayerGraph


@dataclass(frozen=True)
class ImportedModel:
    """A layer graph together with the nodes and weights that its subgraphs are cut from."""

    graph: LayerGraph
    nodes: Mapping[str, onnx.NodeProto]
    """By operator name."""
    weights: Mapping[str, ir.TensorProtocol]
    """By tensor name. Values stay where the file has them (in memory or mapped) until a slice is cut."""
    types: Mapping[str, onnx.TypeProto]
    """Of opaque activations, by name, as far as something tells them: to declare them in subgraphs."""
    opset_imports: Mapping[str, int]
    """Operator-set version by domain."""
    ir_version: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(tensor.nbytes for tensor in self.weights.values())

    def open_shape(self, name: str) -> tuple[int, ...]:
        """What is known of an opaque tensor's shape: -1 for a length that depends on the data, (-1,) when even their
        number does."""
        kind = self.types.get(name, onnx.TypeProto()).tensor_type
        if not kind.HasField("shape"):
            return (-1,)
        return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
