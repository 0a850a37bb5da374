"""Which layer each node belongs to that onnxruntime really runs: after it has fused, laid out anew and put between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from flexpie.compiler.subgraph import SubgraphSpec
from flexpie.core.graph import LayerGraph

_INTO_BLOCKS, _OUT_OF_BLOCKS = "ReorderInput", "ReorderOutput"
"""What onnxruntime puts between operators that read channels in blocks and those that do not."""
_BLOCKED = "_nchwc"


@dataclass(frozen=True)
class Owner:
    """What a node runs for: a layer, or the border of the subgraph."""

    layer: int | None = None
    """Index in the graph."""
    enters: str | None = None
    """The input of the subgraph that is laid out anew; no layer then."""
    leaves: str | None = None
    """The output of the subgraph that is laid out anew; no layer then."""


def node_owners(graph: LayerGraph, spec: SubgraphSpec, optimised: Path) -> tuple[tuple[str, Owner | None], ...]:
    """Operator type and owner of every node of an optimised subgraph, in running order; None where nothing tells.

    A node that yields a tensor of a layer, or has the name of one of its operators, belongs to that layer; any other to
    the layer of whoever reads its results. A reordering of channels into blocks belongs to the layer that yields what
    is reordered, and one out of blocks to the layer that reads it: these are the ones that do without blocks. At the
    subgraph's borders it belongs to the tensor that enters or leaves.
    """
    nodes = list(onnx.load(optimised, load_external_data=False).graph.node)
    resolver = _Resolver(graph, spec, nodes)
    return tuple((node.op_type, resolver.owner(index)) for index, node in enumerate(nodes))


class _Resolver:
    def __init__(self, graph: LayerGraph, spec: SubgraphSpec, nodes: Sequence[onnx.NodeProto]) -> None:
        self._nodes = nodes
        self._layer_of: Mapping[str, int] = graph.producer
        self._layer_named = {
            op.name: index for index, layer in enumerate(graph.layers) for op in layer.operators if op.name
        }
        self._inputs = {name for name, _ in spec.inputs}
        self._outputs = {name for name, _ in spec.outputs}
        self._maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
        self._readers: dict[str, list[int]] = {}
        for index, node in enumerate(nodes):
            for name in node.input:
                self._readers.setdefault(name, []).append(index)

    def owner(self, index: int) -> Owner | None:
        node = self._nodes[index]
        if node.op_type == _INTO_BLOCKS:
            source = node.input[0]
            if source in self._inputs:
                return Owner(enters=source)
            layer = self._layer(self._maker[source]) if source in self._maker else None
        elif node.op_type == _OUT_OF_BLOCKS:
            layer = self._read_by(node)
            if layer is None and node.output[0] in self._outputs:
                return Owner(leaves=node.output[0])
        else:
            layer = self._layer(index)
        return None if layer is None else Owner(layer=layer)

    def _layer(self, index: int) -> int | None:
        node = self._nodes[index]
        for name in node.output:
            if name in self._layer_of:
                return self._layer_of[name]
        blocked = node.name.removesuffix(_BLOCKED)
        for known in (self._layer_named.get(node.name), self._layer_of.get(blocked), self._named_after(blocked)):
            if known is not None:
                return known
        read_by = self._read_by(node)
        return self._written_by(node) if read_by is None else read_by

    def _named_after(self, name: str) -> int | None:
        """The layer of the operator whose name this is, or which gave it its beginning: ``NAME/MatMulAddFusion``."""
        while name:
            if name in self._layer_named:
                return self._layer_named[name]
            name = name[: max(name.rfind("/"), name.rfind("_"), 0)]
        return None

    def _read_by(self, node: onnx.NodeProto) -> int | None:
        """The first layer that reads what a node yields."""
        for name in node.output:
            for reader in self._readers.get(name, ()):
                layer = self._layer(reader) if self._nodes[reader].op_type != _OUT_OF_BLOCKS else None
                if layer is None:
                    layer = self._read_by(self._nodes[reader])
                if layer is not None:
                    return layer
        return None

    def _written_by(self, node: onnx.NodeProto) -> int | None:
        """The layer of whoever yields what a node reads."""
        for name in node.input:
            if name in self._maker:
                return self._layer(self._maker[name])
        return None
