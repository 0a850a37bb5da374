"""Tensors in the messages of the Open Inference Protocol: ours and tritonclient's agree bit by bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient import utils as triton

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.wire.open_inference_tensors import (
    DATATYPES,
    array_from_contents,
    array_from_raw,
    array_to_contents,
    array_to_raw,
    bfloat16_to_float32,
    element_type_of,
    float32_to_bfloat16,
)
from flexpie.wire.tensors import NUMPY_DTYPES, Array
from flexpie.wire.v1 import open_inference_pb2

HALVES = {ElementType.FLOAT16, ElementType.BFLOAT16}
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, kinds: st.SearchStrategy[ElementType]) -> tuple[ElementType, Array]:
    kind, shape = draw(kinds), draw(shapes)
    elements = st.text(max_size=5) if kind is ElementType.STRING else None
    return kind, draw(hnp.arrays(NUMPY_DTYPES[kind], shape, elements=elements, fill=st.nothing()))


@given(arrays(st.sampled_from(list(DATATYPES))))
def test_raw_contents_round_trip(pair: tuple[ElementType, Array]) -> None:
    kind, array = pair
    found = array_from_raw(bytes(array_to_raw(array)), DATATYPES[kind], array.shape, "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@given(arrays(st.sampled_from([kind for kind in DATATYPES if kind not in HALVES])))
def test_typed_contents_round_trip(pair: tuple[ElementType, Array]) -> None:
    kind, array = pair
    found = array_from_contents(array_to_contents(array, kind), DATATYPES[kind], array.shape, "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("kind", [kind for kind in DATATYPES if kind is not ElementType.BFLOAT16])
def test_datatypes_are_tritons(kind: ElementType) -> None:
    dtype = triton.triton_to_np_dtype(DATATYPES[kind])
    assert dtype is not None
    assert np.dtype(dtype) == NUMPY_DTYPES[kind]


def test_strings_are_written_as_triton_writes_them() -> None:
    array = np.array([["a", "üß"], ["", "long " * 99]], dtype=object)
    assert bytes(array_to_raw(array)) == triton.serialize_byte_tensor(array).item()
    read = triton.deserialize_bytes_tensor(bytes(array_to_raw(array)))
    assert [text.decode() for text in read] == array.ravel().tolist()


@given(hnp.arrays(np.float32, 50))
def test_float32_is_rounded_as_ml_dtypes_rounds_it(numbers: Array) -> None:
    known = ~np.isnan(numbers)
    with np.errstate(over="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(float32_to_bfloat16(numbers)[known], expected[known])


@given(hnp.arrays(np.uint16, 50))
def test_bfloat16_bits_survive_the_way_through_float32(bits: Array) -> None:
    numbers = bfloat16_to_float32(bits)
    known = ~np.isnan(numbers)
    np.testing.assert_array_equal(float32_to_bfloat16(numbers)[known], bits[known])
    assert np.isnan(bfloat16_to_float32(float32_to_bfloat16(numbers)))[~known].all()


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    numbers = np.array([1.0 + 2**-9, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 3.4e38], np.float32)
    rounded = bfloat16_to_float32(float32_to_bfloat16(numbers))
    assert rounded.tolist() == [1.0, 1.0, 1.0 + 2**-6, np.inf]


@pytest.mark.parametrize(
    ("raw", "datatype", "shape", "text"),
    [
        (b"", "FP31", [1], "unknown datatype"),
        (b"1234", "FP32", [2], "takes 8 bytes, but has 4"),
        (b"12345", "FP32", [1], "takes 4 bytes, but has 5"),
        (b"1234", "FP32", [-1], "must not be negative"),
        (b"1234", "FP32", [2**40, 2**40], "takes"),
        (b"", "BYTES", [2**60], "too few"),
        (b"\x09\x00\x00\x00abc", "BYTES", [1], "cut off"),
        (b"\x01\x00\x00\x00abc", "BYTES", [1], "2 bytes too many"),
        (b"\x01\x00\x00\x00\xff", "BYTES", [1], "utf-8"),
    ],
)
def test_wrong_raw_contents_are_refused(raw: bytes, datatype: str, shape: list[int], text: str) -> None:
    with pytest.raises(FlexPieError, match=text) as raised:
        array_from_raw(raw, datatype, shape, "x")
    assert raised.value.code is ErrorCode.INVALID_INPUT
    assert "x" in raised.value.message


Contents = open_inference_pb2.InferTensorContents


@pytest.mark.parametrize(
    ("contents", "datatype", "shape", "text"),
    [
        (Contents(fp32_contents=[1, 2]), "FP32", [3], "takes 3 elements, but has 2"),
        (Contents(int_contents=[1]), "FP32", [1], "int_contents instead of fp32_contents"),
        (Contents(int_contents=[300]), "INT8", [1], "INT8"),
        (Contents(uint_contents=[2**31]), "UINT16", [1], "UINT16"),
        (Contents(), "FP16", [0], "raw contents only"),
        (Contents(bytes_contents=[b"\xff"]), "BYTES", [1], "utf-8"),
        (Contents(), "INT64", [-2], "negative"),
    ],
)
def test_wrong_typed_contents_are_refused(
    contents: open_inference_pb2.InferTensorContents, datatype: str, shape: list[int], text: str
) -> None:
    with pytest.raises(FlexPieError, match=text) as raised:
        array_from_contents(contents, datatype, shape, "x")
    assert raised.value.code is ErrorCode.INVALID_INPUT


def test_every_datatype_is_an_element_type() -> None:
    assert all(element_type_of(name, "x") is kind for kind, name in DATATYPES.items())
