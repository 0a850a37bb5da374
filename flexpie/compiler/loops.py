"""Shapes that a Loop hands from one turn to the next.

ONNX lets them change with each turn, and so its inference knows nothing of them behind the Loop. Mostly they do not
change: what the body yields for the shapes it began with has the same shapes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

_FIRST_CARRIED = 2
"""Inputs of a Loop in front of those that it carries: trip count and condition; of its body: number and condition."""


def loop_shapes(inferred: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Shapes of Loop outputs that the model with its inferred types does not tell yet, but that can be known."""
    graph = inferred.graph
    known = {info.name: info.type for info in (*graph.input, *graph.value_info, *graph.output)}
    for weight in graph.initializer:
        known[weight.name] = onnx.helper.make_tensor_type_proto(weight.data_type, weight.dims)
    found = []
    for node in graph.node:
        if node.op_type == "Loop" and node.domain in {"", "ai.onnx"}:
            for name, kind in _carried(inferred, node, known).items():
                if name and not _is_static(known.get(name)):
                    found.append(onnx.ValueInfoProto(name=name, type=kind))
    return found


def _carried(
    model: onnx.ModelProto, node: onnx.NodeProto, known: Mapping[str, onnx.TypeProto]
) -> dict[str, onnx.TypeProto]:
    """Types of the outputs that have the shape of what the Loop began with."""
    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    names = list(node.input[_FIRST_CARRIED:])
    kept = {at: known[name] for at, name in enumerate(names) if _is_static(known.get(name))}
    while kept:
        yielded = _body_types(model, body, kept, known)
        same = {at: kind for at, kind in kept.items() if _shape(yielded.get(at)) == _shape(kind)}
        if len(same) == len(kept):
            break
        kept = same
    return {node.output[at]: kind for at, kind in kept.items() if at < len(node.output)}


def _body_types(
    model: onnx.ModelProto,
    body: onnx.GraphProto,
    kept: Mapping[int, onnx.TypeProto],
    known: Mapping[str, onnx.TypeProto],
) -> dict[int, onnx.TypeProto]:
    """Types that the body yields for carried values, by index, if `kept` are the types that it begins with."""
    alone = onnx.ModelProto(ir_version=model.ir_version, graph=body)
    alone.opset_import.extend(model.opset_import)
    for at, info in enumerate(alone.graph.input[_FIRST_CARRIED:]):
        if at in kept:
            info.type.CopyFrom(kept[at])
        elif info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    for info in (*alone.graph.output, *alone.graph.value_info):
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    own = {info.name for info in alone.graph.input} | {tensor.name for tensor in alone.graph.initializer}
    for name in sorted(set(_read_in(body)) - own):
        if name in known:
            alone.graph.input.append(onnx.ValueInfoProto(name=name, type=known[name]))
    inferred = onnx.shape_inference.infer_shapes(alone, strict_mode=False, data_prop=True)
    return {at: info.type for at, info in enumerate(inferred.graph.output[_FIRST_CARRIED - 1 :])}


def _read_in(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that nodes and sub-graphs of a graph read."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _read_in(inner)


def _is_static(kind: onnx.TypeProto | None) -> bool:
    return _shape(kind) is not None


def _shape(kind: onnx.TypeProto | None) -> tuple[int, ...] | None:
    """Lengths of all axes; None where not all are known, or it is no tensor."""
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None
