"""Tells which node of a model onnxruntime refuses, where its own message does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flexpie.core.errors import FlexPieError
from flexpie.wire.onnx_files import length_delimited

_UNKNOWN = re.compile(r"(\S*?):(\w+)\(-?\d+\) is not a registered function/op")
_PATH = re.compile(r"Load model from \S+ failed:\s*")

# Field numbers of onnx.proto.
_GRAPH, _NODE, _NAME, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 7, 1, 3, 4, 5, 7
_ATTRIBUTE_GRAPHS = (6, 11)


def explained(error: FlexPieError, subgraph: str, model: bytes) -> FlexPieError:
    """An engine's refusal of a subgraph, with the subgraph and, for an operator that it does not know, the nodes."""
    message = f"In subgraph {subgraph}, {_PATH.sub('', error.message)}"
    unknown = _UNKNOWN.search(message)
    if unknown is None:
        return FlexPieError(error.code, message, error.remedy)
    domain, op_type = unknown.groups()
    names = sorted({name for name, *kind in _nodes(memoryview(model)) if kind == [op_type, domain]})
    where = f" (node {', '.join(names[:5])})" if names else ""
    return FlexPieError(
        error.code,
        f"{message}{where}.",
        f"Replace {op_type} by operators of ONNX, or define it as a function in the model.",
    )


def _nodes(model: memoryview) -> Iterator[tuple[str, str, str]]:
    """Name, type and domain of each node, those in sub-graphs too."""
    for field, content in length_delimited(model):
        if field == _GRAPH:
            yield from _nodes_of_graph(content)


def _nodes_of_graph(graph: memoryview) -> Iterator[tuple[str, str, str]]:
    for field, node in length_delimited(graph):
        if field != _NODE:
            continue
        fields = list(length_delimited(node))
        texts = {number: str(content, "utf-8") for number, content in fields if number in {_NAME, _OP_TYPE, _DOMAIN}}
        yield texts.get(_NAME, ""), texts.get(_OP_TYPE, ""), texts.get(_DOMAIN, "")
        for number, attribute in fields:
            if number == _ATTRIBUTE:
                for inner, content in length_delimited(attribute):
                    if inner in _ATTRIBUTE_GRAPHS:
                        yield from _nodes_of_graph(content)
