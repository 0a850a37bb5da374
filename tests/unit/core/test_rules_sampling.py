"""Rules of operators that sample pictures, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.rule_checks import Array, Case, check, values

SEEDS = st.integers(0, 9999)


@given(
    volume=st.booleans(), mode=st.sampled_from(("linear", "nearest", "cubic")),
    padding=st.sampled_from(("zeros", "border", "reflection")), corners=st.integers(0, 1), old=st.booleans(),
    seed=SEEDS,
)  # fmt: skip
def test_part_of_grid_sample_equals_the_whole(
    volume: bool, mode: str, padding: str, corners: int, old: bool, seed: int
) -> None:
    size, places = ((3, 4, 5), (2, 3, 4)) if volume else ((4, 5), (6, 3))
    if old:
        mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    attributes: dict[str, Any] = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    inputs = (values((2, 3, *size)), values((2, *places, len(size)), 1) * 0.7)
    check(Case("GridSample", inputs, attributes, 16 if old else 20), seed=seed)


@given(mode=st.sampled_from(("avg", "max")), ratio=st.integers(0, 2), opset=st.sampled_from((10, 16)), seed=SEEDS)
def test_part_of_aligned_boxes_equals_the_whole(mode: str, ratio: int, opset: int, seed: int) -> None:
    corners = np.random.default_rng(seed).random((5, 2, 2)).astype(np.float32).cumsum(axis=1) * 6
    pictures = np.array([0, 1, 1, 0, 1], np.int64)
    attributes: dict[str, Any] = {
        "mode": mode, "output_height": 3, "output_width": 2, "sampling_ratio": ratio, "spatial_scale": 0.5
    }  # fmt: skip
    inputs = (values((2, 3, 8, 8)), corners.reshape(5, 4), pictures)
    check(Case("RoiAlign", inputs, attributes, opset), seed=seed)


@given(seed=SEEDS)
def test_part_of_pooled_boxes_equals_the_whole(seed: int) -> None:
    boxes = np.array([[0, 0, 0, 4, 4], [1, 2, 1, 7, 7], [0, 3, 3, 5, 6]], np.float32)
    check(Case("MaxRoiPool", (values((2, 3, 8, 8)), boxes), {"pooled_shape": (2, 3)}, 9), seed=seed)


@pytest.mark.recent_onnxruntime
@given(groups=st.sampled_from((1, 2)), bias=st.booleans(), mask=st.booleans(), seed=SEEDS)
def test_part_of_deformable_convolution_equals_the_whole(groups: int, bias: bool, mask: bool, seed: int) -> None:
    inputs: list[Array | None] = [
        values((2, 4, 5, 6)), values((6, 4 // groups, 3, 2), 1), values((2, 12, 5, 6), 2) * 0.4,
        values((6,), 3) if bias else None, values((2, 6, 5, 6), 4) if mask else None,
    ]  # fmt: skip
    attributes: dict[str, Any] = {"kernel_shape": (3, 2), "pads": (1, 0, 1, 1), "group": groups}
    check(Case("DeformConv", tuple(inputs), attributes, 19), seed=seed)


@given(strides=st.integers(1, 2), seed=SEEDS)
def test_part_of_columns_to_pictures_equals_the_whole(strides: int, seed: int) -> None:
    size, block = np.array([5, 6]), np.array([2, 3])
    count = int(np.prod((size - block) // strides + 1))
    inputs = (values((2, 3 * 6, count)), size.astype(np.int64), block.astype(np.int64))
    check(Case("Col2Im", inputs, {"strides": (strides, strides)}, 18), seed=seed)
