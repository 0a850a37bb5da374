"""Every file that a model refers to is found, wherever in the model it is."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from flexpie.wire.onnx_files import external_locations


def external_files(model: bytes) -> set[str]:
    return set(external_locations(memoryview(model)))


def tensor(location: str) -> TensorProto:
    found = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    found.external_data.add(key="offset", value="location")
    found.external_data.add(key="location", value=location)
    return found


def graph(location: str) -> onnx.GraphProto:
    return helper.make_graph([], "g", [], [], [tensor(location)])


def test_all_places_are_searched() -> None:
    node = helper.make_node("If", ["c"], ["y"], then_branch=graph("in a branch"), value=tensor("in an attribute"))
    node.attribute.add(name="graphs", type=onnx.AttributeProto.GRAPHS).graphs.append(graph("in one of graphs"))
    node.attribute.add(name="tensors", type=onnx.AttributeProto.TENSORS).tensors.append(tensor("in one of tensors"))
    sparse = onnx.SparseTensorProto(values=tensor("sparse values"), indices=tensor("sparse indices"))
    node.attribute.add(name="sparse", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    model = helper.make_model(helper.make_graph([node], "main", [], [], [tensor("plain")]))
    model.graph.sparse_initializer.append(sparse)
    model.functions.add(name="f").node.append(helper.make_node("Constant", [], ["c"], value=tensor("in a function")))
    model.training_info.add(algorithm=graph("in training"), initialization=graph("before training"))
    assert external_files(model.SerializeToString()) == {
        "in a branch", "in an attribute", "in one of graphs", "in one of tensors", "sparse values", "sparse indices",
        "plain", "in a function", "in training", "before training",
    }  # fmt: skip


def test_a_model_without_external_data_refers_to_nothing() -> None:
    weight = helper.make_tensor("location", TensorProto.FLOAT, [2], [1.0, 2.0])
    model = helper.make_model(helper.make_graph([], "g", [], [], [weight]), doc_string="location")
    assert external_files(model.SerializeToString()) == set()


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_refers_to_something(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        external_files(content)


def test_a_model_that_is_cut_off_is_refused() -> None:
    content = helper.make_model(graph("somewhere")).SerializeToString()
    for length in range(len(content) - 60, len(content)):
        try:
            external_files(content[:length])
        except ValueError:
            continue
        # Cut between two fields: still a message, and it must not have lost its files silently.
        onnx.ModelProto.FromString(content[:length])


def wrapped(field: int, content: bytes) -> bytes:
    """A message with one field."""
    length, size = b"", len(content)
    while size >= 0x80:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return bytes((field << 3 | 2,)) + length + bytes((size,)) + content


def test_endless_nesting_is_refused() -> None:
    content = graph("deep").SerializeToString()
    for _ in range(150):
        content = wrapped(1, wrapped(5, wrapped(6, content)))  # graph, node, attribute
    with pytest.raises(ValueError, match="nested too deeply"):
        external_files(wrapped(7, content))


def test_a_field_number_that_others_would_read_as_another_is_refused() -> None:
    model = helper.make_model(graph("hidden"))
    content = model.graph.SerializeToString()
    assert len(content) < 0x80
    model.ClearField("graph")
    # Field 7 in five bytes, and a bit above the 32 that onnxruntime takes.
    smuggled = model.SerializeToString() + b"\xba\x80\x80\x80\x10" + bytes((len(content),)) + content
    with pytest.raises(ValueError, match="out of range"):
        external_files(smuggled)
