"""Values that tell themselves what they are survive the wire; nonsense is refused."""

from __future__ import annotations

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
from flexpie.wire.opaque import Datum, datum_to_bytes, read_datum
from flexpie.wire.tensors import datum_bytes, payload_bytes, payload_to_arrays

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
dtypes = st.sampled_from(["float16", "float32", "float64", "int8", "int64", "uint8", "uint64", "bool", "complex64"])
numbers = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))
texts = hnp.arrays(object, shapes, elements=st.text(max_size=4), fill=st.nothing())
arrays: st.SearchStrategy[Any] = st.one_of(numbers, texts)
keys: st.SearchStrategy[Any] = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=4))
map_values: st.SearchStrategy[Any] = st.one_of(
    arrays, st.floats(allow_nan=False), st.integers(-9, 9), st.text(max_size=4)
)
data: st.SearchStrategy[Any] = st.recursive(
    st.one_of(arrays, st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(keys, st.one_of(inner, map_values), max_size=3)
    ),
    max_leaves=6,
)

OPAQUE = Value("t", Region(), ElementType.OBJECT, opaque=True)


def assert_same(found: Datum, expected: Datum) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        assert_same(list(found.values()), list(expected.values()))
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@given(data)
def test_values_round_trip(datum: Datum) -> None:
    encoded = datum_to_bytes(datum)
    found, length = read_datum(memoryview(encoded))
    assert length == len(encoded)
    assert_same(found, datum)


@given(st.lists(data, min_size=1, max_size=3))
def test_they_share_a_payload_with_others(items: list[Datum]) -> None:
    plain = Value("x", Region.whole((3,)), ElementType.INT8)
    values = [OPAQUE] * len(items) + [plain]
    payload = b"".join([*(datum_bytes(item, True) for item in items), b"\x01\x02\x03"])
    *found, last = payload_to_arrays(memoryview(payload), values)
    assert_same(found, items)
    assert last.tolist() == [1, 2, 3]
    assert payload_bytes(values) is None


@given(data, st.data())
def test_what_is_cut_off_is_refused(datum: Datum, choice: st.DataObject) -> None:
    encoded = datum_to_bytes(datum)
    with pytest.raises(ValueError):  # noqa: PT011 - any of its subclasses will do
        read_datum(memoryview(encoded[: choice.draw(st.integers(0, len(encoded) - 1))]))


def refused_or_read(payload: bytes) -> bool:
    """Whether a payload is read, or refused in the one way that is meant for it."""
    try:
        payload_to_arrays(memoryview(payload), [OPAQUE])
    except FlexPieError as error:
        return error.code is ErrorCode.CORRUPT_PACKAGE
    return True


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read(payload: bytes) -> None:
    assert refused_or_read(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x09",
        b"\x01\x08float128\x00",
        b"\x01\x07float32\x01" + b"\xff" * 8,  # a negative length
        b"\x01\x07float32\x01" + (2**60).to_bytes(8, "little"),
        b"\x01\x06object\x01" + (2**60).to_bytes(8, "little"),
        b"\x02\xff\xff\xff\xff",
        b"\x03\xff\xff\xff\xff",
        b"\x02\x01\x00\x00\x00" * 40,
        b"\x03\x01\x00\x00\x00\x00\x00",  # nothing as a key
        b"\x06\x01\x00\x00\x00\xff",  # no UTF-8
        b"\x00\x00",  # more than one value
    ],
)
def test_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(FlexPieError) as raised:
        payload_to_arrays(memoryview(payload), [OPAQUE])
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


@pytest.mark.parametrize("datum", [{1, 2}, b"bytes", np.array(["2020-01-01"], dtype="datetime64[D]"), [object()]])
def test_what_no_model_yields_is_refused(datum: Any) -> None:
    with pytest.raises(FlexPieError, match="cannot be sent") as raised:
        datum_bytes(datum, opaque=True)
    assert raised.value.code is ErrorCode.EXECUTION_FAILED
