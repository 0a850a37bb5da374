"""Arrays become payloads and payloads become arrays, without changing a bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.framing import Data, decode_frame, encode_frame
from flexpie.wire.strings import strings_to_bytes
from flexpie.wire.tensors import (
    NUMPY_DTYPES,
    Array,
    array_to_bytes,
    cut,
    payload_bytes,
    payload_to_arrays,
)

kinds = st.sampled_from([kind for kind in ElementType if kind.value != "object"])
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Value, Array]:
    kind, shape = draw(st.sampled_from([kind for kind in ElementType if kind is not ElementType.OBJECT])), draw(shapes)
    value = Value("x", Region.whole(shape), kind)
    if kind is ElementType.STRING:
        return value, draw(hnp.arrays(object, shape, elements=st.text(max_size=5), fill=st.nothing()))
    raw = draw(st.binary(min_size=value.nbytes, max_size=value.nbytes))
    if kind is ElementType.BOOL:
        raw = bytes(byte & 1 for byte in raw)
    return value, np.frombuffer(raw, NUMPY_DTYPES[kind]).reshape(shape)


@given(st.lists(arrays(), max_size=4))
def test_payloads_round_trip(pairs: list[tuple[Value, Array]]) -> None:
    values = [value for value, _ in pairs]
    message = encode_frame("d", 1, 0, Data(0, 0), [array_to_bytes(array) for _, array in pairs])
    read = payload_to_arrays(decode_frame(message).payload, values)
    for (value, array), found in zip(pairs, read, strict=True):
        assert found.dtype == NUMPY_DTYPES[value.dtype]
        assert found.shape == value.region.shape
        assert found.flags.aligned
        assert array_to_bytes(found) == array_to_bytes(array)


def test_contiguous_arrays_are_not_copied() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.shares_memory(np.frombuffer(array_to_bytes(array), np.uint8), array)


def test_received_arrays_are_views_of_the_message() -> None:
    array = np.arange(6, dtype=np.float64)
    message = encode_frame("d", 1, 0, Data(0, 0), [array_to_bytes(array)])
    (found,) = payload_to_arrays(decode_frame(message).payload, [Value("x", Region.whole((6,)), ElementType.FLOAT64)])
    assert np.shares_memory(found, np.frombuffer(message, np.uint8))


def test_unaligned_arrays_are_copied() -> None:
    values = [
        Value("flags", Region.whole((3,)), ElementType.BOOL),
        Value("x", Region.whole((2,)), ElementType.FLOAT32),
    ]
    payload = memoryview(bytes((1, 0, 1)) + np.array([1.5, 2.5], np.float32).tobytes())
    flags, x = payload_to_arrays(payload, values)
    assert flags.tolist() == [True, False, True]
    assert x.tolist() == [1.5, 2.5]
    assert x.flags.aligned


def test_cut_is_in_the_tensors_coordinates() -> None:
    array = np.arange(20).reshape(4, 5)
    origin = Region.of((10, 14), (0, 5))
    assert cut(array, origin, Region.of((11, 13), (2, 4))).tolist() == [[7, 8], [12, 13]]
    assert cut(array, origin, origin) is array


def test_slices_and_other_byte_orders_become_plain_bytes() -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert bytes(array_to_bytes(array[:, 1:3])) == np.ascontiguousarray(array[:, 1:3]).tobytes()
    assert bytes(array_to_bytes(array.astype(">i2"))) == array.tobytes()


@pytest.mark.parametrize("kind", [ElementType.FLOAT32, ElementType.STRING])
@pytest.mark.parametrize("payload", [b"", b"\x01", b"\xff" * 7, b"\xff" * 8, bytes(100)])
def test_payloads_of_a_wrong_size_are_refused(kind: ElementType, payload: bytes) -> None:
    with pytest.raises(FlexPieError) as raised:
        payload_to_arrays(memoryview(payload), [Value("x", Region.whole((3,)), kind)])
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_strings_that_are_no_text_are_refused() -> None:
    with pytest.raises(FlexPieError) as raised:
        payload_to_arrays(
            memoryview(strings_to_bytes([b"\xff\xfe"])), [Value("x", Region.whole((1,)), ElementType.STRING)]
        )
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_strings_and_numbers_share_a_payload() -> None:
    values = [
        Value("a", Region.whole((2,)), ElementType.STRING),
        Value("b", Region.whole((2,)), ElementType.INT64),
        Value("c", Region.whole((1,)), ElementType.STRING),
    ]
    numbers = np.array([1, 2])
    payload = strings_to_bytes(["ü", ""]) + numbers.tobytes() + strings_to_bytes(["x"])
    a, b, c = payload_to_arrays(memoryview(payload), values)
    assert (a.tolist(), b.tolist(), c.tolist()) == (["ü", ""], [1, 2], ["x"])
    assert payload_bytes(values) is None
    assert payload_bytes(values[1:2]) == 16
