"""Nodes at the borders of a subgraph, by which float32 tensors are float16 outside of it.

onnxruntime casts with vector instructions, tens of times faster than numpy, and in the pass in which a device computes
anyway; so values, messages and assembling know nothing of it but a tensor's type.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from flexpie.core.boundary import LARGEST_FLOAT16
from flexpie.core.errors import ErrorCode, FlexPieError

_OLDEST_OPSET = 6


def widened(twin: str, name: str) -> onnx.NodeProto:
    """float16 `twin` → float32 `name`: exact."""
    return onnx.helper.make_node("Cast", [twin], [name], name=f"{twin}/widened", to=onnx.TensorProto.FLOAT)


def narrowed(
    name: str, twin: str, opset: int, own_name: Callable[[str], str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """float32 `name` → float16 `twin`, rounded to the nearest (ties to even), in a model of the default operator set
    `opset`; with the constants that the nodes read. `own_name` finds names that nothing else has.

    What is too large for float16 becomes the largest that is not, with its sign; NaN stays. Raises
    ``UNSUPPORTED_MODEL`` for operator sets of before Cast was what it is.
    """
    if opset < _OLDEST_OPSET:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"Float16 boundaries need operator set {_OLDEST_OPSET} or later; the model has {opset}.",
            "Convert the model to a later operator set, or leave its boundaries float32.",
        )
    clipped, cast = own_name(f"{twin}/clipped"), onnx.TensorProto.FLOAT16
    bounds = {own_name(f"{twin}/min"): -LARGEST_FLOAT16, own_name(f"{twin}/max"): LARGEST_FLOAT16}
    if opset < 11:  # attributes then, inputs since
        clip = onnx.helper.make_node("Clip", [name], [clipped], name=clipped, min=-LARGEST_FLOAT16, max=LARGEST_FLOAT16)
        bounds = {}
    else:
        clip = onnx.helper.make_node("Clip", [name, *bounds], [clipped], name=clipped)
    constants = [onnx.helper.make_tensor(key, onnx.TensorProto.FLOAT, [], [value]) for key, value in bounds.items()]
    return [clip, onnx.helper.make_node("Cast", [clipped], [twin], name=twin, to=cast)], constants
