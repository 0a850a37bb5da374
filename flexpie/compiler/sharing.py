"""Profiles of one model hold the same weights: in the master's memory they are there once."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from flexpie.compiler.blobs import array_bytes
from flexpie.compiler.imported import ImportedModel


def share_weights(model: ImportedModel, twin: ImportedModel) -> ImportedModel:
    """The model with every weight that its twin (the same file, imported with other input shapes) has as well taken
    from there. Nothing of the model refers to the file's message any more, so that only the twin's is kept."""
    weights = {name: _shared(tensor, twin.weights.get(name)) for name, tensor in model.weights.items()}
    return dataclasses.replace(model, weights=weights)


def _shared(tensor: ir.TensorProtocol, other: ir.TensorProtocol | None) -> ir.TensorProtocol:
    if other is not None and _equal(tensor, other):
        return other
    if isinstance(tensor, ir.TensorProtoTensor) and tensor.dtype != ir.DataType.STRING:
        return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
    return tensor


def _equal(tensor: ir.TensorProtocol, other: ir.TensorProtocol) -> bool:
    if (tensor.dtype, tensor.shape) != (other.dtype, other.shape) or tensor.dtype == ir.DataType.STRING:
        return False
    if isinstance(tensor, ir.ExternalTensor) and isinstance(other, ir.ExternalTensor):
        return _place(tensor) == _place(other)
    return array_bytes(tensor.numpy()) == array_bytes(other.numpy())


def _place(tensor: ir.ExternalTensor) -> tuple[object, ...]:
    return tensor.path, tensor.offset, tensor.length
