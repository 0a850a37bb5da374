"""From the simplified model to the layer graph: operators, known constants, linking."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import onnx
import onnx_ir as ir

from flexpie.compiler.imported import ImportedModel
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import AttributeValue, Constant, Layer, LayerGraph, Operator, Reals
from flexpie.core.rules import bind, rule_for
from flexpie.core.tensor import ElementType, TensorSpec

_CONSTANT_ELEMENTS = 64
"""Integer weights up to this many elements are known to the rules (shapes, axes, pads)."""

_ELEMENT_TYPES = {ir.DataType[kind.name if kind is not ElementType.FLOAT32 else "FLOAT"]: kind for kind in ElementType
                  if kind is not ElementType.FLOAT64} | {ir.DataType.DOUBLE: ElementType.FLOAT64}  # fmt: skip

ONNX_TYPES = {kind: int(data_type) for data_type, kind in _ELEMENT_TYPES.items()}
"""Element type → number of ``onnx.TensorProto.DataType``."""


def build_graph(model: ir.Model, name: str, digest: str) -> ImportedModel:
    """The layer graph of a simplified model whose shapes are all known."""
    weights = {key: value.const_value for key, value in model.graph.initializers.items() if value.const_value}
    operators, nodes = [], {}
    for node in model.graph:
        operator = _operator(model, node)
        operators.append(operator)
        nodes[operator.name] = ir.to_proto(node)
    values = [
        *model.graph.inputs,
        *model.graph.initializers.values(),
        *(v for n in model.graph for v in n.outputs),
    ]
    tensors = {value.name: _spec(value, model) for value in values if value.name}
    graph = LayerGraph(
        name=name,
        inputs=tuple(value.name or "" for value in model.graph.inputs),
        outputs=tuple(value.name or "" for value in model.graph.outputs),
        tensors=tensors,
        weights=frozenset(weights),
        constants=dict(_constants(weights)),
        reals=dict(_reals(weights)),
        layers=tuple(Layer(operator.name, (operator,)) for operator in operators),
        digest=digest,
    )
    return ImportedModel(link(graph), nodes, weights, dict(model.opset_imports), model.ir_version)


def _operator(model: ir.Model, node: ir.Node) -> Operator:
    attributes = {key: value for key, attr in node.attributes.items() if (value := _readable(attr)) is not None}
    captured = tuple(dict.fromkeys(_captured(node)))
    return Operator(
        name=node.name or node.op_type,
        op_type=node.op_type,
        domain=node.domain,
        version=node.version or model.opset_imports.get(node.domain, 1),
        inputs=tuple((value.name or "") if value is not None else "" for value in node.inputs) + captured,
        outputs=tuple(value.name or "" for value in node.outputs),
        attributes=attributes,
        opaque=any(attr.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS} for attr in node.attributes.values()),
    )


def _captured(node: ir.Node) -> Iterator[str]:
    """Names of outer tensors that the node's sub-graphs read (Loop, If, Scan)."""
    for attr in node.attributes.values():
        graphs = [attr.value] if attr.type is ir.AttributeType.GRAPH else (
            attr.value if attr.type is ir.AttributeType.GRAPHS else [])  # fmt: skip
        for graph in graphs:
            inner = set(graph.inputs) | set(graph.initializers.values())
            inner |= {value for member in graph.all_nodes() for value in member.outputs}
            inner |= {value for member in graph.all_nodes() for sub in _subgraphs(member) for value in sub.inputs}
            reads = [*graph.outputs, *(value for member in graph.all_nodes() for value in member.inputs)]
            yield from (value.name or "" for value in reads if value is not None and value not in inner)


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    return [attr.value for attr in node.attributes.values() if attr.type is ir.AttributeType.GRAPH]


def _readable(attr: ir.Attr) -> AttributeValue | None:
    kind, value = attr.type, attr.value
    if kind in {ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING}:
        return value  # type: ignore[no-any-return]
    if kind in {ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS}:
        return tuple(value)
    return None


def _spec(value: ir.Value, model: ir.Model) -> TensorSpec:
    kind = _ELEMENT_TYPES.get(value.dtype) if value.dtype is not None else None
    if kind is None or value.shape is None or not value.shape.is_static():
        producer = value.producer()
        where = f"the output {value.name} of {producer.op_type} {producer.name}" if producer else f"input {value.name}"
        what = (
            f"type {value.dtype or value.type}" if kind is None else f"shape {value.shape}, which depends on the data"
        )
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"In model {model.graph.name}, {where} has the {what}.",
            "FlexPie needs every shape before it plans; fix open dimensions, or remove the operator.",
        )
    return TensorSpec(value.name or "", tuple(int(dim) for dim in value.shape if isinstance(dim, int)), kind)


def _constants(weights: dict[str, ir.TensorProtocol]) -> Iterator[tuple[str, Constant]]:
    for name, tensor in weights.items():
        if tensor.dtype in {ir.DataType.INT64, ir.DataType.INT32} and tensor.size <= _CONSTANT_ELEMENTS:
            yield name, tuple(int(item) for item in tensor.numpy().flatten())


def _reals(weights: dict[str, ir.TensorProtocol]) -> Iterator[tuple[str, Reals]]:
    """Vectors with a number per axis of an image or volume, such as the scales of a Resize."""
    for name, tensor in weights.items():
        if tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 1 and 2 <= tensor.size <= 6:
            yield name, tuple(float(item) for item in tensor.numpy())


def link(graph: LayerGraph) -> LayerGraph:
    """Join operators that map each element to the same place to the layer in front of them (Xenos' linking).

    An operator joins the layer of its latest activation input when that tensor has no other reader, is no output
    of the graph, and the operator's rule says that the two places are the same. No scheme gets lost but those that
    would re-divide a tensor just before an element-wise step.
    """
    groups: list[list[Operator]] = []
    home: dict[str, int] = {}
    uses: dict[str, int] = {}
    for operator in graph.operators():
        for tensor in set(operator.inputs):
            uses[tensor] = uses.get(tensor, 0) + 1
    for operator in graph.operators():
        latest = max(
            (index for index, tensor in enumerate(operator.inputs) if tensor in home),
            key=lambda index: home[operator.inputs[index]],
            default=None,
        )
        target = None
        if latest is not None:
            tensor = operator.inputs[latest]
            alone = uses[tensor] == 1 and tensor not in graph.outputs
            if alone and rule_for(operator).links(bind(graph, operator), latest):
                target = home[tensor]
        if target is None:
            target = len(groups)
            groups.append([])
        groups[target].append(operator)
        home.update({tensor: target for tensor in operator.outputs if tensor})
    return dataclasses.replace(graph, layers=tuple(Layer(group[0].name, tuple(group)) for group in groups))


def tensor_value_info(name: str, kind: ElementType, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    """Declaration of a tensor of known shape."""
    return onnx.helper.make_tensor_value_info(name, ONNX_TYPES[kind], shape)
