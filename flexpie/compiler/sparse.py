"""Sparse weights, written out: neither onnx_ir nor the rules know them, and onnxruntime writes them out as well."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def write_out_sparse(graph: onnx.GraphProto) -> None:
    """Replace the sparse weights and constants of a graph and its sub-graphs by plain ones.

    Raises ``ValueError`` for one whose indices do not fit its shape.
    """
    graph.initializer.extend(_dense(weight) for weight in graph.sparse_initializer)
    graph.ClearField("sparse_initializer")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                tensor = _dense(attribute.sparse_tensor)
                attribute.Clear()
                attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                attribute.t.CopyFrom(tensor)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.sparse_initializer:
                    write_out_sparse(inner)


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[_within(indices, dense.size)] = values
    else:
        dense[tuple(_within(indices[:, axis], length) for axis, length in enumerate(dense.shape))] = values
    return numpy_helper.from_array(dense, sparse.values.name)


def _within(indices: np.ndarray, length: int) -> np.ndarray:
    if indices.size and not 0 <= indices.min() <= indices.max() < length:
        raise ValueError(f"a sparse tensor has an index outside of 0 to {length - 1}")
    return indices
