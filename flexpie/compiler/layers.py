"""From the simplified model to the layer graph: operators, known constants, linking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx
import onnx_ir as ir

from flexpie.compiler.branches import captured_by, subgraphs_of
from flexpie.compiler.drawing import draws
from flexpie.compiler.imported import ImportedModel
from flexpie.compiler.linking import join_untyped, link
from flexpie.compiler.probing import without_stumbling
from flexpie.compiler.weights import weight_values
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.grain import with_grains
from flexpie.core.graph import AttributeValue, Constant, Layer, LayerGraph, Operator, Reals
from flexpie.core.tensor import ElementType, TensorSpec

_CONSTANT_ELEMENTS = 64
"""Integer weights up to this many elements are known to the rules (shapes, axes, pads)."""

_NAMES = {ElementType.FLOAT32: "FLOAT", ElementType.FLOAT64: "DOUBLE"}
_ELEMENT_TYPES = {
    ir.DataType[name]: kind for kind in ElementType if (name := _NAMES.get(kind, kind.name)) in ir.DataType.__members__
}
_UNCUTTABLE = {
    kind for kind in ElementType if kind.name.startswith(("FLOAT8", "FLOAT4", "INT4", "INT2", "UINT4", "UINT2"))
}
"""Element types for which onnxruntime has no Slice: activations of these are opaque."""

MAX_TENSOR_BYTES = 1 << 48
"""A tensor with a longer side, or that takes more, fits no machine; what is computed with such lengths overflows."""

ONNX_TYPES = {kind: int(data_type) for data_type, kind in _ELEMENT_TYPES.items()}
"""Element type → number of ``onnx.TensorProto.DataType``."""


def build_graph(model: ir.Model, types: Mapping[str, onnx.TypeProto], name: str, digest: str) -> ImportedModel:
    """The layer graph of a simplified model. What has no known shape, or is no tensor, is opaque in it.

    `types` has the inferred types of its values, by name.
    """
    weights = {key: value.const_value for key, value in model.graph.initializers.items() if value.const_value}
    operators, nodes = [], {}
    for node in model.graph:
        operator = _operator(model, node)
        operators.append(operator)
        nodes[operator.name] = ir.serde.serialize_node(node)
    activations = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    tensors = {value.name: _spec(value) for value in activations if value.name}
    tensors |= {key: _weight_spec(key, tensor) for key, tensor in weights.items()}
    _check_sizes(tensors.values())
    opaque = {value.name: _type_of(value, types) for value in activations if value.name and tensors[value.name].opaque}
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
    known = {key: kind for key, kind in opaque.items() if kind is not None}
    graph = with_grains(join_untyped(link(without_stumbling(graph)), opaque.keys() - known.keys()))
    return ImportedModel(graph, nodes, weights, known, dict(model.opset_imports), model.ir_version)


def _operator(model: ir.Model, node: ir.Node) -> Operator:
    if reference := next((attr.name for attr in node.attributes.values() if attr.is_ref()), None):
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The node {node.name or node.op_type!r} takes its attribute {reference} from a function, and is in none.",
            "Export the model anew.",
        )
    attributes = {key: value for key, attr in node.attributes.items() if (value := _readable(attr)) is not None}
    captured = tuple(dict.fromkeys(captured_by(node)))
    return Operator(
        name=node.name or node.op_type,
        op_type=node.op_type,
        domain=node.domain,
        version=node.version or model.opset_imports.get(node.domain, 1),
        inputs=tuple((value.name or "") if value is not None else "" for value in node.inputs) + captured,
        outputs=tuple(value.name or "" for value in node.outputs),
        attributes=attributes,
        opaque=any(True for _ in subgraphs_of(node)),
        draws=draws(node),
    )


def _check_sizes(tensors: Iterable[TensorSpec]) -> None:
    for spec in tensors:
        if max(spec.nbytes, *spec.shape, 0) > MAX_TENSOR_BYTES:
            raise FlexPieError(
                ErrorCode.INVALID_MODEL,
                f"The tensor {spec.name} has the shape {'x'.join(map(str, spec.shape))}, which fits no machine.",
                "Look at the attributes of the node that yields it.",
            )


def _readable(attr: ir.Attr) -> AttributeValue | None:
    kind, value = attr.type, attr.value
    if kind in {ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING}:
        return value  # type: ignore[no-any-return]
    if kind in {ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS}:
        return tuple(value)
    return None


def _spec(value: ir.Value) -> TensorSpec:
    name, kind = value.name or "", ElementType.OBJECT
    if isinstance(value.type, ir.TensorType):
        kind = _ELEMENT_TYPES.get(value.type.dtype, kind)
    if kind is ElementType.OBJECT or kind in _UNCUTTABLE or value.shape is None or not value.shape.is_static():
        return TensorSpec(name, (), kind, opaque=True)
    return TensorSpec(name, tuple(int(dim) for dim in value.shape if isinstance(dim, int)), kind)


def _weight_spec(name: str, tensor: ir.TensorProtocol) -> TensorSpec:
    if tensor.dtype not in _ELEMENT_TYPES:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"The weight {name} has the element type {tensor.dtype.name}, which onnxruntime cannot compute with.",
            "Export the model with another type.",
        )
    return TensorSpec(name, tuple(int(dim) for dim in tensor.shape.numpy()), _ELEMENT_TYPES[tensor.dtype])


def _type_of(value: ir.Value, types: Mapping[str, onnx.TypeProto]) -> onnx.TypeProto | None:
    """What is known of an opaque value's type."""
    found = onnx.TypeProto()
    if value.name and value.name in types:
        found.CopyFrom(types[value.name])
    elif value.type is not None:
        found.CopyFrom(ir.to_proto(value).type)
    return found if found.WhichOneof("value") else None


def _constants(weights: dict[str, ir.TensorProtocol]) -> Iterator[tuple[str, Constant]]:
    for name, tensor in weights.items():
        if tensor.dtype in {ir.DataType.INT64, ir.DataType.INT32} and tensor.size <= _CONSTANT_ELEMENTS:
            yield name, tuple(int(item) for item in weight_values(tensor).flatten())


def _reals(weights: dict[str, ir.TensorProtocol]) -> Iterator[tuple[str, Reals]]:
    """Vectors with a number per axis of an image or volume, such as the scales of a Resize."""
    for name, tensor in weights.items():
        if tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 1 and 2 <= tensor.size <= 6:
            yield name, tuple(float(item) for item in weight_values(tensor))


def tensor_value_info(name: str, kind: ElementType, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    """Declaration of a tensor of known shape."""
    return onnx.helper.make_tensor_value_info(name, ONNX_TYPES[kind], shape)
