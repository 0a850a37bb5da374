"""What in_flight and batching mean for a model's profiles and places."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.interface import Interface
from flexpie.master.serving import Serving, batch_profiles, check_axes, origin, sizes_up_to, with_batches

SHORT = {"ids": (1, 64), "mask": (1, 64)}
LONG = {"ids": (1, 128), "mask": (1, 128)}


def test_batches_are_powers_of_two() -> None:
    assert [sizes_up_to(most) for most in (1, 2, 7, 8)] == [[], [2], [2, 4], [2, 4, 8]]


def test_every_profile_of_one_request_gets_profiles_for_its_batches() -> None:
    profiles = with_batches([SHORT, LONG], 4)
    assert [shapes["mask"] for shapes in profiles] == [(1, 64), (1, 128), (2, 64), (2, 128), (4, 64), (4, 128)]
    assert batch_profiles(profiles, 1, 4) == {1: 1, 2: 3, 4: 5}
    assert [origin(profiles, index, 4) for index in range(6)] == [None, None, (0, 2), (1, 2), (0, 4), (1, 4)]
    assert with_batches(profiles, 4) == profiles, "given ones are not made twice"


def test_requests_of_other_lengths_are_not_gathered() -> None:
    profiles = with_batches([SHORT, {"ids": (3, 64), "mask": (3, 64)}], 2)
    assert len(profiles) == 3
    assert batch_profiles(profiles, 1, 2) == {1: 1}
    for shapes in ({}, {"ids": (1, 64), "mask": (2, 64)}, {"scale": ()}):
        with pytest.raises(ValueError, match="begin with 1"):
            with_batches([shapes], 2)
        assert with_batches([shapes], 1) == (shapes,)


@pytest.mark.parametrize(
    ("serving", "room", "runs", "places"),
    [
        (Serving(), None, 32, 32),
        (Serving(), 5, 32, 5),
        (Serving(in_flight=3), 5, 3, 3),
        (Serving(in_flight=99), None, 32, 32),
        (Serving(max_batch=8), None, 2, 16),
        (Serving(max_batch=8), 10, 2, 10),
        (Serving(in_flight=1, max_batch=4), None, 1, 4),
    ],
)
def test_runs_and_places(serving: Serving, room: int | None, runs: int, places: int) -> None:
    assert serving.runs(32) == runs
    assert serving.places(32, room) == places


def test_each_device_that_takes_turns_has_a_batch() -> None:
    assert Serving(max_batch=4).runs(32, turns=4) == 4
    assert Serving(max_batch=4).places(32, None, turns=4) == 16
    assert Serving(max_batch=4, in_flight=1).runs(32, turns=4) == 1
    assert Serving().runs(32, turns=4) == 32


def _interface(batch: int) -> Interface:
    kind = ElementType.FLOAT32
    return Interface((TensorSpec("x", (batch, 3), kind),), (TensorSpec("y", (batch, 5), kind),))


def test_all_inputs_and_outputs_grow_along_the_first_axis() -> None:
    check_axes("cat", _interface(1), _interface(4), 4)
    for one, many in (((1, 5), (1, 5)), ((5,), (20,)), ((), ()), ((-1, 5), (-1, 5)), ((1, 5), (4, 6))):
        single = replace(_interface(1), outputs=(TensorSpec("y", one, ElementType.FLOAT32),))
        batch = replace(_interface(4), outputs=(TensorSpec("y", many, ElementType.FLOAT32),))
        with pytest.raises(FlexPieError, match="the output y is") as caught:
            check_axes("cat", single, batch, 4)
        assert caught.value.code is ErrorCode.INVALID_SHAPE
