"""Values that tell themselves what they are survive the wire; bytes that stand for none are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.opaque import datum_to_bytes, read_datum
from flexpie.wire.tensors import datum_bytes, payload_bytes, payload_to_arrays

OPAQUE = Value("x", Region(), ElementType.OBJECT, opaque=True)
PLAIN = Value("y", Region.of((0, 2)), ElementType.INT32)

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
dtypes = st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int64", "uint16", "bool"])
numbers = hnp.arrays(dtypes, shapes)
strings = hnp.arrays(object, shapes, elements=st.text(max_size=5), fill=st.nothing())
items = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=5))
maps = st.dictionaries(st.one_of(st.integers(-9, 9), st.text(max_size=5)), items, max_size=3)
data = st.recursive(
    st.one_of(numbers, strings, st.none(), maps), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


def same(one: Any, other: Any) -> bool:
    """NaN equals NaN, and arrays must have the same type."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(data)
def test_values_round_trip(datum: Any) -> None:
    encoded = datum_to_bytes(datum)
    found, length = read_datum(memoryview(encoded))
    assert length == len(encoded)
    assert same(datum, found)


@given(st.lists(data, max_size=3))
def test_messages_bring_them_beside_arrays(found: list[Any]) -> None:
    plain = np.array([1, 2], np.int32)
    values = [PLAIN, *[OPAQUE] * len(found), PLAIN]
    pieces = [datum_bytes(plain, False), *(datum_bytes(datum, True) for datum in found), datum_bytes(plain, False)]
    assert payload_bytes(values) == (None if found else 16)
    read = payload_to_arrays(memoryview(b"".join(pieces)), values)
    assert same([plain, *found, plain], read)


@given(data, st.integers(0, 200))
def test_what_is_cut_off_is_refused(datum: Any, kept: int) -> None:
    encoded = datum_to_bytes(datum)
    if kept < len(encoded):
        with pytest.raises(ValueError, match=r"[a-z]"):
            read_datum(memoryview(encoded)[:kept])


@given(st.binary(max_size=60))
def test_noise_is_refused_or_read(noise: bytes) -> None:
    try:
        read_datum(memoryview(noise))
    except ValueError:
        return


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x09",
        struct.pack("<BI", 2, 2**32 - 1),
        struct.pack("<BB6sBq", 1, 6, b"object", 1, 2**40),
        struct.pack("<BB4sBq", 1, 4, b"int8", 1, -1),
        b"\x01\x03foo\x00",
        struct.pack("<BI", 2, 1) * 20 + b"\x00",
        struct.pack("<BI", 3, 1) + b"\x00\x00",
    ],
    ids=["kind", "count", "strings", "shape", "type", "depth", "key"],
)
def test_nonsense_is_refused(encoded: bytes) -> None:
    with pytest.raises(FlexPieError) as caught:
        payload_to_arrays(memoryview(encoded), [OPAQUE])
    assert caught.value.code is ErrorCode.CORRUPT_PACKAGE


def test_what_no_model_yields_is_refused() -> None:
    with pytest.raises(FlexPieError) as caught:
        datum_bytes(object(), True)
    assert caught.value.code is ErrorCode.EXECUTION_FAILED


def test_received_arrays_are_views_where_they_are_aligned() -> None:
    payload = np.frombuffer(datum_to_bytes(np.arange(8.0)), np.uint8)
    assert np.shares_memory(payload, read_datum(payload.data)[0]) == (payload.ctypes.data % 8 == 0)
