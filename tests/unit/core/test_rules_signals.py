"""Rules of Fourier transforms and determinants, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values, vector

SEEDS = st.integers(0, 9999)


@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=3), axis=st.integers(-4, 2), parts=st.integers(1, 2),
       onesided=st.integers(0, 1), length=st.sampled_from((None, 4, 5)), opset=st.sampled_from((17, 20)),
       seed=SEEDS)  # fmt: skip
def test_part_of_transform_equals_the_whole(
    shape: list[int], axis: int, parts: int, onesided: int, length: int | None, opset: int, seed: int
) -> None:
    shape.append(parts)
    axis = axis % (len(shape) - 1) - (len(shape) if axis < 0 else 0)
    attributes: dict[str, Any] = {"onesided": onesided if parts == 1 else 0}
    inputs: list[Array | None] = [values(shape), None if length is None else np.array(length, np.int64)]
    if opset == 17:
        attributes["axis"] = axis
    else:
        inputs.append(np.array(axis, np.int64))
    check(Case("DFT", tuple(inputs), attributes, opset, frozenset({1, 2})), seed=seed)


@given(batch=st.integers(1, 2), samples=st.integers(8, 20), step=st.integers(1, 5), length=st.integers(2, 8),
       window=st.booleans(), onesided=st.integers(0, 1), seed=SEEDS)  # fmt: skip
def test_part_of_short_transform_equals_the_whole(
    batch: int, samples: int, step: int, length: int, window: bool, onesided: int, seed: int
) -> None:
    inputs = (
        values((batch, samples, 1)), np.array(step, np.int64), values((length,), 1) if window else None,
        np.array(length, np.int64),
    )  # fmt: skip
    check(Case("STFT", inputs, {"onesided": onesided}, 17, frozenset({1, 3})), seed=seed)


def test_frames_need_the_samples_under_them() -> None:
    inputs = (values((1, 40, 1)), np.array(4, np.int64), values((8,), 1))
    case = Case("STFT", inputs, {}, 17, frozenset({1}))
    bound = bound_case(case, run(case))
    needed = rule_for(bound.operator).needs(bound, (Region.of((0, 1), (2, 5), (0, 5), (0, 2)),))
    assert needed[0] == Region.of((0, 1), (8, 24), (0, 1))


@given(outer=st.lists(st.integers(1, 4), max_size=2), size=st.integers(1, 4), seed=SEEDS)
def test_part_of_determinants_equals_the_whole(outer: list[int], size: int, seed: int) -> None:
    check(Case("Det", (values((*outer, size, size)),), {}, 11), seed=seed)


def test_unknown_axis_is_whole() -> None:
    check(Case("DFT", (values((2, 4, 1)), None, vector(1)[0]), {}, 20), divided=False)
