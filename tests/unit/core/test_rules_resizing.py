"""Rule of Resize and Upsample, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, is_divided, run, values, vector

SEEDS = st.integers(0, 9999)
SCALES = (1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 0.5, 0.25, 1.5, 2.5, 0.75, 1.3, 5.0)
COORDINATES = ("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric",
               "tf_half_pixel_for_nn", "tf_crop_and_resize")  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@st.composite
def resizes(draw: st.DrawFn) -> Case:
    opset = draw(st.sampled_from((7, 9, 10, 11, 13, 18, 19)))
    mode = draw(st.sampled_from(("nearest", "nearest", "linear", "cubic")))
    if opset < 11 and mode == "cubic":
        mode = "linear"
    rank = 4 if mode == "cubic" else draw(st.sampled_from((2, 4, 4, 5, 3)))
    lengths = st.integers(1, 9) if draw(st.booleans()) else st.sampled_from((2, 4, 8, 12))
    shape = [draw(lengths) for _ in range(rank)]
    scales = [draw(st.sampled_from(SCALES)) for _ in range(rank)]
    if mode != "nearest" and rank > 2:  # onnxruntime resizes linearly along the inner axes only
        scales[: rank - 2 if rank < 5 else 2] = [1.0] * (rank - 2 if rank < 5 else 2)
    kind = draw(st.sampled_from(("float32", "float32", "uint8", "int32")))
    x = values(shape, 1, kind) if kind == "float32" else np.random.default_rng(1).integers(0, 200, shape).astype(kind)
    scales_array = np.array(scales, np.float32)
    attributes: dict[str, Any] = {"mode": mode}
    if opset == 7:
        return Case("Upsample", (x,), attributes | {"scales": tuple(scales)}, 7)
    if opset < 11:
        return Case("Upsample" if opset == 9 else "Resize", (x, scales_array), attributes, opset, frozenset({1}))
    names = COORDINATES if opset >= 19 else COORDINATES[:4] + COORDINATES[5:]
    attributes["coordinate_transformation_mode"] = draw(st.sampled_from(names))
    if attributes["coordinate_transformation_mode"] == "tf_half_pixel_for_nn" and opset > 11:
        attributes["coordinate_transformation_mode"] = "half_pixel"
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(ROUNDINGS))
    if mode == "cubic" and draw(st.booleans()):
        attributes["exclude_outside"] = 1
    if opset >= 18 and draw(st.integers(0, 3)) == 0 and mode != "nearest":
        attributes["antialias"] = 1
    roi: Array | None = np.array([0.0] * rank + [1.0] * rank, np.float32)
    if attributes["coordinate_transformation_mode"] != "tf_crop_and_resize":
        roi = draw(st.sampled_from((np.array([], np.float32), None if opset >= 13 else np.array([], np.float32))))
    if draw(st.booleans()):
        return Case("Resize", (x, roi, scales_array), attributes, opset, frozenset({1, 2}))
    sizes = vector(*(max(1, int(length * scale)) for length, scale in zip(shape, scales, strict=True)))
    empty = None if opset >= 13 else np.array([], np.float32)
    return Case("Resize", (x, roi, empty, sizes), attributes, opset, frozenset({1, 2, 3}))


@given(case=resizes(), seed=SEEDS)
def test_part_of_resize_equals_the_whole(case: Case, seed: int) -> None:
    if any(length == 0 for length in run(case)[0].shape):  # type: ignore[union-attr]
        return
    check(case, seed=seed, divided=None)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("scale", [2.0, 4.0, 0.5, 3.0])
@pytest.mark.parametrize("by_size", [False, True])
def test_usual_scales_are_divided_along_every_axis(mode: str, coordinates: str, scale: float, by_size: bool) -> None:
    x = values((1, 3, 12, 16))
    scales = np.array([1, 1, scale, scale], np.float32)
    inputs = (x, None, None, vector(1, 3, int(12 * scale), int(16 * scale))) if by_size else (x, None, scales)
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    case = Case("Resize", inputs, attributes, 13, frozenset({2, 3}))
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    assert is_divided(bound)
    height, width = bound.output().shape[2:]
    for rows in ((0, height // 2), (height // 3, height - 1), (height - 2, height)):
        wanted = (Region.of((0, 1), (1, 2), rows, (1, width // 2)),)
        assert rule.produces(bound, wanted) == wanted
        needed = rule.needs(bound, wanted)[0]
        assert needed is not None
        assert needed.shape[2] < 12
        check(case, wanted)


def test_doubling_the_nearest_needs_no_halo() -> None:
    x, scales = values((1, 3, 8, 8)), np.array([1, 1, 2, 2], np.float32)
    for coordinates, rounding in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        attributes: dict[str, Any] = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
        case = Case("Resize", (x, None, scales), attributes, 13, frozenset({2}))
        bound = bound_case(case, run(case))
        needed = rule_for(bound.operator).needs(bound, (Region.of((0, 1), (0, 3), (4, 8), (0, 16)),))
        assert needed == (Region.of((0, 1), (0, 3), (2, 4), (0, 8)), None, Region.of((0, 4)))


def test_linear_needs_one_row_on_each_side() -> None:
    case = Case("Resize", (values((1, 3, 8, 8)), None, np.array([1, 1, 2, 2], np.float32)), {"mode": "linear"}, 13,
                frozenset({2}))  # fmt: skip
    bound = bound_case(case, run(case))
    needed = rule_for(bound.operator).needs(bound, (Region.of((0, 1), (0, 3), (4, 8), (0, 16)),))
    assert needed[0] == Region.of((0, 1), (0, 3), (1, 5), (0, 8))


def test_unknown_scales_stay_whole() -> None:
    inputs = (values((1, 3, 8, 8)), None, np.array([1, 1, 2, 2], np.float32))
    check(Case("Resize", inputs, {}, 13), divided=False)


def test_corners_that_must_meet_are_divided_along_channels_only() -> None:
    inputs = (values((1, 3, 8, 8)), None, np.array([1, 1, 2, 2], np.float32))
    attributes: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    case = Case("Resize", inputs, attributes, 13, frozenset({2}))
    bound = check(case)
    produced = rule_for(bound.operator).produces(bound, (Region.of((0, 1), (1, 2), (2, 5), (0, 3)),))
    assert produced == (Region.of((0, 1), (1, 2), (0, 16), (0, 16)),)
