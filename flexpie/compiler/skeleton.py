"""A model without its large weights: what the checker and shape inference need to see."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx_ir import serde

SMALL_WEIGHT_BYTES = 4096
"""Weights up to this size stay: shape inference reads target shapes, axes and pads from them."""


def skeleton(model: ir.Model, declared: Mapping[str, onnx.TypeProto]) -> onnx.ModelProto:
    """The model as a message in which large weights are plain inputs; it can be checked and its shapes inferred
    without copying any weight, whatever its size. `declared` has the types that the model itself cannot hold."""
    graph = onnx.GraphProto(name=model.graph.name or "model")
    # Not `ir.to_proto`: to find out what each value is takes it longer than the work itself.
    graph.node.extend(map(serde.serialize_node, model.graph))
    inputs = {value.name: value for value in model.graph.inputs}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes <= SMALL_WEIGHT_BYTES:
            small = graph.initializer.add()
            small.CopyFrom(serde.serialize_tensor(_in_memory(tensor)))
            small.name = name
        else:
            inputs[name] = value
    graph.input.extend(map(serde.serialize_value, inputs.values()))
    graph.output.extend(map(serde.serialize_value, model.graph.outputs))
    for info in (*graph.input, *graph.output):
        if info.name in declared:
            info.type.CopyFrom(declared[info.name])
    for output in graph.output:  # the checker wants a shape, onnxruntime does not
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.shape.SetInParent()
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 4), graph=graph)
    proto.opset_import.extend(onnx.OperatorSetIdProto(domain=d, version=v) for d, v in model.opset_imports.items())
    proto.functions.extend(map(serde.serialize_function, model.functions.values()))
    return proto


def check(model: ir.Model, declared: Mapping[str, onnx.TypeProto]) -> None:
    """Raise ``onnx.checker.ValidationError`` for a model that is none.

    What the checker wants and onnxruntime does without is made up: types of outputs, ranks of inputs.
    """
    bones = skeleton(model, declared)
    for info in bones.graph.input:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.shape.SetInParent()
    typed = [output for output in bones.graph.output if output.type.WhichOneof("value")]
    del bones.graph.output[:]
    bones.graph.output.extend(typed)
    onnx.checker.check_model(bones)


def _in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The checker and shape inference look at values, but into no file."""
    return ir.Tensor(tensor.numpy().copy()) if isinstance(tensor, ir.ExternalTensor) else tensor
