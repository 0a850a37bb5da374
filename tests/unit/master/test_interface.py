"""What a model takes, and which of its profiles a request is for."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, Shape, TensorSpec
from flexpie.master.interface import Interface, choose_profile, merged

FLOAT, INT = ElementType.FLOAT32, ElementType.INT64


def _profile(x: Shape, z: Shape = (), y: Shape = ()) -> Interface:
    return Interface((TensorSpec("x", x, FLOAT), TensorSpec("z", z, INT)), (TensorSpec("y", y, FLOAT),))


def _choose(profiles: list[Interface], **given: tuple[Shape, ElementType]) -> int:
    return choose_profile("cat", profiles, {name: (np.zeros(shape), kind) for name, (shape, kind) in given.items()})


SEQUENCES = [_profile((1, 64), (1, 64)), _profile((1, 128), (1, 128)), _profile((4, 64), (4, 64))]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "Wrong inputs for cat: missing input 'x', missing input 'z'."),
        ({"y": ((4, 2), FLOAT)}, "Wrong inputs for cat: unknown input 'y', missing input 'x', missing input 'z'."),
        ({"x": ((2, 4), FLOAT), "z": ((), INT)}, "Wrong input for cat: got x float32[2, 4]."),
        ({"x": ((4, 2), ElementType.FLOAT64), "z": ((), INT)}, "Wrong input for cat: got x float64[4, 2]."),
        ({"x": ((4,), FLOAT), "z": ((1,), INT)}, "Wrong input for cat: got x float32[4]; z int64[1]."),
    ],
)
def test_wrong_inputs_are_refused_with_what_is_expected(given: dict[str, tuple[Shape, ElementType]], text: str) -> None:
    with pytest.raises(FlexPieError) as caught:
        _choose([_profile((4, 2))], **given)
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert caught.value.message == f"{text} Expected: x float32[4, 2]; z int64[]."


def test_right_inputs_pass_whatever_their_values() -> None:
    x = TensorSpec("x", (4, 2), FLOAT)
    assert choose_profile("cat", [Interface((x,), ())], {"x": (np.full((4, 2), np.nan, np.float32), FLOAT)}) == 0
    assert choose_profile("cat", [Interface((), ())], {}) == 0


def test_shapes_choose_the_profile() -> None:
    for index, profile in enumerate(SEQUENCES):
        x, z = profile.shapes
        assert _choose(SEQUENCES, x=(x, FLOAT), z=(z, INT)) == index


@pytest.mark.parametrize(
    ("x", "z", "got"),
    [
        ((2, 64), (1, 64), "got x float32[2, 64]."),
        ((1, 64), (1, 128), "got x float32[1, 64]; z int64[1, 128]."),  # each fits some profile, both fit none
        ((4, 128), (4, 128), "got x float32[4, 128]; z int64[4, 128]."),
    ],
)
def test_other_shapes_are_refused_with_all_profiles(x: Shape, z: Shape, got: str) -> None:
    with pytest.raises(FlexPieError) as caught:
        _choose(SEQUENCES, x=(x, FLOAT), z=(z, INT))
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert caught.value.message == (
        f"Wrong input for cat: {got} Expected one of its profiles: (x float32[1, 64]; z int64[1, 64]), "
        "or (x float32[1, 128]; z int64[1, 128]), or (x float32[4, 64]; z int64[4, 64])."
    )


def test_lengths_that_differ_are_open() -> None:
    one = merged([_profile((1, 64), (3,), (1, 1000)), _profile((4, 64), (3,), (4, 1000))])
    assert one.shapes == ((-1, 64), (3,))
    assert [spec.shape for spec in one.outputs] == [(-1, 1000)]
    assert merged(SEQUENCES).shapes == ((-1, -1), (-1, -1))
    assert merged(SEQUENCES[:1]) == SEQUENCES[0]


def test_a_length_that_depends_on_the_data_stays_open() -> None:
    assert merged([_profile((1,), y=(-1, 4)), _profile((2,), y=(-1, 4))]).outputs[0].shape == (-1, 4)


def test_ranks_may_differ() -> None:
    assert merged([_profile((1, 4)), _profile((4,))]).shapes[0] == (-1, -1)
