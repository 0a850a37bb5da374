"""Types and shapes of operators that onnxruntime adds to ONNX's own, as its quantiser and optimiser write them.

ONNX's shape inference does not know them; it is shown operators of the default set that yield the same in their stead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto
from onnx.helper import make_node

DOMAIN = "com.microsoft"

Types = Mapping[str, int]
"""Element type (``TensorProto.DataType``) of each tensor that no node yields."""

_StandIn = Callable[[onnx.NodeProto, Types], list[onnx.NodeProto]]
"""Empty where the node must stay."""


def replace_contrib_nodes(proto: onnx.ModelProto) -> None:
    """Replace, in place, the nodes that are known here by such of the default operator set whose outputs have the
    same names, types and shapes, and other values. Others stay."""
    if all(node.domain != DOMAIN for node in proto.graph.node):
        return
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    types |= {info.name: info.type.tensor_type.elem_type for info in proto.graph.input}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        stand_in = _STAND_INS.get(node.op_type) if node.domain == DOMAIN else None
        nodes += (stand_in(node, types) if stand_in else None) or [node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _copy(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    return [make_node("Identity", [node.input[0]], [node.output[0]])]


def _broadcast(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    return [make_node("Add", node.input[:2], [node.output[0]])]


def _quantized_broadcast(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    return _through_floats(node, [0, 3], "Add", {}, _zero_point_type(node, 7, types))


def _choice(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    return [make_node("Where", [node.input[0], node.input[1], node.input[4]], [node.output[0]])]


def _concatenation(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    return [_with_attributes(make_node("Concat", node.input[2::3], [node.output[0]]), _attributes(node))]


def _pool(op_type: str) -> _StandIn:
    def build(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
        attributes = _attributes(node)
        if attributes.pop("channels_last", 0) or attributes.get("ceil_mode", 0):
            return []  # other shapes than those that ONNX infers
        return _through_floats(node, [0], op_type, attributes, _zero_point_type(node, 4, types))

    return build


def _gemm(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    attributes = _attributes(node)
    flips = [bool(attributes.get(name, 0)) for name in ("transA", "transB")]
    kind = _zero_point_type(node, 8, types) if len(node.input) > 8 and node.input[8] else TensorProto.FLOAT
    turned = [f"{node.output[0]}/{side}" for side in "AB"]
    first = [make_node("Transpose" if flip else "Identity", [node.input[at]], [name])
             for flip, at, name in zip(flips, (0, 3), turned, strict=True)]  # fmt: skip
    product = make_node("QGemm", turned, [node.output[0]])
    rest = _through_floats(product, [0, 1], "MatMul", {}, kind)
    return [*first, *rest] if rest else []


def _quantize(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    kind = _zero_point_type(node, 2, types)
    return [make_node("Cast", [node.input[0]], [node.output[0]], to=kind)] if kind else []


def _dequantize(node: onnx.NodeProto, types: Types) -> list[onnx.NodeProto]:
    kind = types.get(node.input[1], TensorProto.UNDEFINED)
    return [make_node("Cast", [node.input[0]], [node.output[0]], to=kind)] if kind else []


_STAND_INS: Mapping[str, _StandIn] = {
    "QLinearAdd": _quantized_broadcast,
    "QLinearMul": _quantized_broadcast,
    "QLinearWhere": _choice,
    "QLinearConcat": _concatenation,
    "QLinearSigmoid": _copy,
    "QLinearLeakyRelu": _copy,
    "QLinearSoftmax": _copy,
    "QLinearAveragePool": _pool("AveragePool"),
    "QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
    "QGemm": _gemm,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Gelu": _copy,
    "QuickGelu": _copy,
    "FastGelu": _copy,
    "BiasGelu": _broadcast,
}


def _through_floats(
    node: onnx.NodeProto, operands: list[int], op_type: str, attributes: dict[str, object], kind: int
) -> list[onnx.NodeProto]:
    """The operands as floats, an operator on floats, and its result as `kind`; nothing where that is not known."""
    if kind == TensorProto.UNDEFINED:
        return []
    output = node.output[0]
    floats = [f"{output}/float{index}" for index in operands]
    casts = [make_node("Cast", [node.input[index]], [name], to=TensorProto.FLOAT)
             for index, name in zip(operands, floats, strict=True)]  # fmt: skip
    operator = _with_attributes(make_node(op_type, floats, [f"{output}/float"]), attributes)
    return [*casts, operator, make_node("Cast", [f"{output}/float"], [output], to=kind)]


def _zero_point_type(node: onnx.NodeProto, index: int, types: Types) -> int:
    """Type of the zero point, which is that of the data; without one it is uint8; undefined where it is computed."""
    name = node.input[index] if index < len(node.input) else ""
    return types.get(name, TensorProto.UNDEFINED) if name else TensorProto.UINT8


def _with_attributes(node: onnx.NodeProto, attributes: Mapping[str, object]) -> onnx.NodeProto:
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
    return node


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
