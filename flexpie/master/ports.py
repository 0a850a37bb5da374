"""A model's inputs and outputs as clients see them, and which models the Open Inference Protocol cannot serve."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.wire.open_inference_tensors import DATATYPES

if TYPE_CHECKING:
    from flexpie.compiler import ImportedModel

_KINDS = {"sequence_type": "a sequence", "optional_type": "an optional", "map_type": "a map"}
"""What the fields of a TypeProto stand for."""


def ports_of(model: ImportedModel) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs; a length that depends on the data is -1.

    Raises ``UNSUPPORTED_MODEL`` for an input or output that is no tensor or of an element type that the protocol
    lacks, ``INVALID_SHAPE`` for an input of unknown rank.
    """
    graph = model.graph
    inputs = tuple(_shown(model, name, "input") for name in graph.inputs)
    for spec in inputs:
        if spec.opaque:
            raise FlexPieError(
                ErrorCode.INVALID_SHAPE,
                f"Input {spec.name} of {graph.name} is of unknown rank.",
                f"Give its shape: `--shape {spec.name}=1x3x224x224` on the command line, or `input_shapes` of the "
                "model in cluster.yaml.",
            )
    return inputs, tuple(_shown(model, name, "output") for name in graph.outputs)


def _shown(model: ImportedModel, name: str, role: str) -> TensorSpec:
    spec = model.graph.tensors[name]
    if spec.dtype is ElementType.OBJECT:
        kind = model.types[name].WhichOneof("value") if name in model.types else None
        what = _KINDS.get(kind or "", "of a type that nothing tells")
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"The {role} {name} of {model.graph.name} is {what}; clients can exchange tensors only.",
            "Export the model with tensors as its inputs and outputs.",
        )
    if spec.dtype not in DATATYPES:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"The {role} {name} of {model.graph.name} has the element type {spec.dtype.value}, which no client can "
            "exchange.",
            f"Cast it in the model to one of {', '.join(kind.value for kind in DATATYPES)}.",
        )
    return dataclasses.replace(spec, shape=model.open_shape(name)) if spec.opaque else spec
