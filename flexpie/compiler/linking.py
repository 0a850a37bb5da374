"""Which operators make a layer: those that always run together."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence, Set

from flexpie.core.graph import Layer, LayerGraph, Operator
from flexpie.core.rules import bind, rule_for


def link(graph: LayerGraph) -> LayerGraph:
    """Join operators that map each element to the same place to the layer in front of them (Xenos' linking).

    An operator joins the layer of its latest activation input when that tensor has no other reader, is no output
    of the graph, and the operator's rule says that the two places are the same. No scheme gets lost but those that
    would re-divide a tensor just before an element-wise step.

    DequantizeLinear goes with its reader instead: onnxruntime computes DequantizeLinear, an operator and QuantizeLinear
    as one operator on integers, with other roundings than the three have, so no exchange may come between them.
    """
    linking = _Linking(graph, Counter(tensor for op in graph.operators() for tensor in set(op.inputs)))
    for operator in graph.operators():
        linking.add(operator)
    linking.settle()
    return _with_layers(graph, linking.groups)


class _Linking:
    def __init__(self, graph: LayerGraph, uses: Counter[str]) -> None:
        self.groups: list[list[Operator]] = []
        self._graph = graph
        self._uses = uses
        self._home: dict[str, int] = {}
        """Group that yields each tensor."""
        self._held_back: dict[str, Operator] = {}
        """DequantizeLinear operators that wait for their reader, by the tensor that they yield."""

    def add(self, operator: Operator) -> None:
        if operator.op_type == "DequantizeLinear" and self._is_private(operator.outputs[0]):
            self._held_back[operator.outputs[0]] = operator
            return
        first = self._take_back(operator)
        sources = {op.outputs[0]: op for op in first}
        latest = max(
            (index for index, tensor in enumerate(operator.inputs) if self._home_of(tensor, sources) is not None),
            key=lambda index: self._home_of(operator.inputs[index], sources) or 0,
            default=None,
        )
        target = None
        if latest is not None:
            chain = [(operator, latest)]
            while (source := sources.get(chain[-1][0].inputs[chain[-1][1]])) is not None:
                chain.append((source, 0))
            if all(self._links(*step) for step in chain):
                target = self._home_of(operator.inputs[latest], sources)
        read = [self._home.get(tensor, -1) for op in first for tensor in op.inputs]
        if target is not None and target < max(read, default=-1):
            target = None  # a scale is computed behind the data
        self._put([*first, operator], target)

    def _take_back(self, operator: Operator) -> list[Operator]:
        """The operators that were held back for this one, and those held back for them, in an order to run in."""
        waiting = [
            self._held_back.pop(tensor) for tensor in dict.fromkeys(operator.inputs) if tensor in self._held_back
        ]
        return [step for source in waiting for step in (*self._take_back(source), source)]

    def settle(self) -> None:
        """Give those that nobody reads a layer of their own."""
        for operator in self._held_back.values():
            self._put([operator], None)

    def _put(self, operators: Sequence[Operator], target: int | None) -> None:
        if target is None:
            target = len(self.groups)
            self.groups.append([])
        self.groups[target] += operators
        self._home.update({tensor: target for operator in operators for tensor in operator.outputs if tensor})

    def _home_of(self, tensor: str, held_back: dict[str, Operator]) -> int | None:
        source = held_back.get(tensor)
        return self._home.get(tensor) if source is None else self._home_of(source.inputs[0], held_back)

    def _is_private(self, tensor: str) -> bool:
        return self._uses[tensor] == 1 and tensor not in self._graph.outputs

    def _links(self, operator: Operator, index: int) -> bool:
        private = self._is_private(operator.inputs[index])
        return private and rule_for(operator).links(bind(self._graph, operator), index)


def join_untyped(graph: LayerGraph, untyped: Set[str]) -> LayerGraph:
    """Make one layer of each run of layers that hand on a value whose type nothing tells (what an operator of an
    unknown domain yields): a subgraph must declare the types of its inputs."""
    groups: list[list[Operator]] = []
    last_index: list[int] = []
    """Of the last layer that has to be in the same group."""
    for index, layer in enumerate(graph.layers):
        reach = max((graph.readers.get(name, (-1,))[-1] for name in layer.produced if name in untyped), default=index)
        if groups and last_index[-1] >= index:
            groups[-1].extend(layer.operators)
            last_index[-1] = max(last_index[-1], reach)
        else:
            groups.append(list(layer.operators))
            last_index.append(reach)
    return _with_layers(graph, groups)


def _with_layers(graph: LayerGraph, groups: Sequence[Sequence[Operator]]) -> LayerGraph:
    return dataclasses.replace(graph, layers=tuple(Layer(_name(group), tuple(group)) for group in groups))


def _name(group: Sequence[Operator]) -> str:
    """That of the operator that does the work: the first but those that prepare its inputs."""
    return next((op.name for op in group if op.op_type != "DequantizeLinear"), group[0].name)
