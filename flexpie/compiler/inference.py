"""Types and shapes of every tensor, inferred as onnxruntime will find them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from flexpie.compiler.contrib import replace_contrib_nodes
from flexpie.compiler.loops import loop_shapes
from flexpie.compiler.run_shapes import settle_shapes, show_settled
from flexpie.compiler.skeleton import skeleton
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import Shape

_DEFAULT_DOMAINS = {"", "ai.onnx"}
_UNTYPED = "expected to have type but instead is null"
"""What inference says behind an operator of which it knows nothing (those of the first operator sets)."""


def forget_declared_shapes(model: ir.Model) -> None:
    """Drop what the file says about shapes that inference can find.

    A file may declare the lengths of one run for a shape that depends on the data, or plain wrong ones; onnxruntime
    minds neither.
    """
    for node in model.graph:
        if node.domain in _DEFAULT_DOMAINS:
            for value in node.outputs:
                value.shape = None


def infer(path: Path, model: ir.Model, declared: Mapping[str, onnx.TypeProto]) -> Mapping[str, onnx.TypeProto]:
    """Write inferred shapes and types into the model's values; returns the types of all that have one, by name.

    `declared` has the types of inputs and outputs that the model itself cannot hold. Raises ``INVALID_MODEL`` when
    types or shapes contradict each other.
    """
    settled: dict[str, Shape] = {}
    types = _infer_once(path, model, declared, settled)
    while settle_shapes(model, settled):
        types = _infer_once(path, model, declared, settled)
    return types


def _infer_once(
    path: Path, model: ir.Model, declared: Mapping[str, onnx.TypeProto], settled: Mapping[str, Shape]
) -> Mapping[str, onnx.TypeProto]:
    proto = skeleton(model, declared)
    replace_contrib_nodes(proto)
    show_settled(proto, settled)
    inputs = {info.name for info in proto.graph.input}
    for output in proto.graph.output:  # files declare them wrongly, and onnxruntime does not mind
        if output.type.HasField("tensor_type") and output.name not in inputs:
            output.type.tensor_type.ClearField("shape")
    inferred = _inferred(path, proto)
    while carried := [info for info in loop_shapes(inferred) if info not in proto.graph.value_info]:
        proto.graph.value_info.extend(carried)
        inferred = _inferred(path, proto)
    known = {info.name: info for info in (*inferred.graph.value_info, *inferred.graph.output)}
    for node in model.graph:
        for value in node.outputs:
            info = known.get(value.name or "")
            if info is None or not info.type.HasField("tensor_type"):
                continue
            found = ir.serde.deserialize_value_info_proto(info, None)
            _check_lengths(path, node, found)
            if found.shape is not None and (found.shape.is_static() or value.shape is None):
                value.shape = found.shape
            if value.dtype is None:
                value.type = found.type
    return {info.name: info.type for info in (*inferred.graph.input, *known.values()) if info.type.WhichOneof("value")}


def _check_lengths(path: Path, node: ir.Node, output: ir.Value) -> None:
    """Inference computes on where a window does not fit into its input; onnxruntime refuses that when it runs."""
    if any(isinstance(dim, int) and dim < 0 for dim in output.shape or ()):
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The {node.op_type} that yields {output.name} in {path.name} has a window larger than its padded input: "
            f"a side of its output gets a length below zero.",
            "Give larger input shapes, or export the model again.",
        )


def _inferred(path: Path, proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        if _UNTYPED in str(error) or _is_about_a_body(proto, str(error)):
            return onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)
        text = " ".join(str(error).split())[:400]
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"The types or shapes of {path.name} contradict each other: {text}.",
            "Check the given input shapes, or export the model again.",
        ) from error


def _is_about_a_body(proto: onnx.ModelProto, message: str) -> bool:
    """Whether inference failed inside the body by which ONNX defines an operator that onnxruntime has a kernel for.

    Such a body may use what the model's operator set does not have yet; nothing is wrong with the model.
    """
    failed = re.search(r"\(op_type:(\w+)", message)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    if failed is None or not onnx.defs.has(failed[1], versions.get("", 1)):
        return False
    schema = onnx.defs.get_schema(failed[1], versions.get("", 1))
    has_body = getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False)
    return has_body and "(op_type:" in message[failed.end() :]
