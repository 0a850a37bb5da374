"""Rule of the transposed convolution, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Interval, Region
from flexpie.core.rules import rule_for
from flexpie.core.rules.transposed import Spread
from tests.unit.core.rule_checks import Case, bound_case, check, run, values

SEEDS = st.integers(0, 9999)


@st.composite
def transposed(draw: st.DrawFn) -> Case:
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    inner, outer = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    strides = [draw(st.integers(1, 4)) for _ in range(rank)]
    dilations = [draw(st.sampled_from((1, 1, 2))) for _ in range(rank)]
    size = [draw(st.integers(1, 6)) for _ in range(rank)]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    if draw(st.booleans()):
        attributes["output_padding"] = [draw(st.integers(0, stride - 1)) for stride in strides]
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
        for axis in range(rank):
            full = (size[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            if attributes["pads"][axis] + attributes["pads"][axis + rank] >= full:
                attributes["pads"][axis] = attributes["pads"][axis + rank] = 0
    elif draw(st.booleans()):
        attributes["auto_pad"] = "VALID"
    attributes = {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}
    inputs = [
        values((draw(st.integers(1, 2)), groups * inner, *size)),
        values((groups * inner, outer, *kernel), 1),
    ]
    if draw(st.booleans()):
        inputs.append(values((groups * outer,), 2))
    return Case("ConvTranspose", tuple(inputs), attributes, draw(st.sampled_from((7, 11, 17, 22))))


@given(case=transposed(), seed=SEEDS)
def test_part_of_transposed_convolution_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed)


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"output_shape": (8, 8)},
        {"output_shape": (6, 6)},
        {"auto_pad": "SAME_UPPER", "output_shape": (8, 8)},
    ],
)
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_pads_that_follow_from_shapes_are_divided_where_they_are_even(attributes: dict[str, Any], kernel: int) -> None:
    inputs = (values((1, 2, 4, 4)), values((2, 3, kernel, kernel), 1))
    for seed in range(5):
        check(Case("ConvTranspose", inputs, {**attributes, "strides": (2, 2)}), seed=seed, divided=kernel != 3)


def test_every_output_is_reached_by_its_inputs_only() -> None:
    for kernel, stride, dilation, pad in ((3, 2, 1, 1), (2, 2, 1, 0), (1, 3, 1, 0), (3, 1, 2, 2), (4, 3, 1, 1)):
        length, extent = 5, (kernel - 1) * dilation + 1
        count = (length - 1) * stride + extent - 2 * pad
        spread = Spread(length, count, kernel, stride, dilation, pad, pad, 0)
        assert spread.is_sound
        for start in range(count):
            for stop in range(start + 1, count + 1):
                reach = [i for i in range(length)
                         if any(start <= i * stride - pad + k * dilation < stop for k in range(kernel))]  # fmt: skip
                source = spread.inputs(Interval(start, stop))
                assert source.length >= 1
                assert not reach or (source.start <= reach[0] and source.stop > reach[-1])


def test_upsampling_by_two_needs_half_the_rows() -> None:
    case = Case("ConvTranspose", (values((1, 4, 8, 8)), values((4, 6, 2, 2), 1)), {"strides": (2, 2)})
    bound = bound_case(case, run(case))
    rule, part = rule_for(bound.operator), (Region.of((0, 1), (2, 5), (4, 8), (0, 16)),)
    assert rule.needs(bound, part) == (
        Region.of((0, 1), (0, 4), (2, 4), (0, 8)),
        Region.of((0, 4), (2, 5), (0, 2), (0, 2)),
    )
    assert rule.flops(bound, part) == 2 * 3 * 4 * 4 * np.prod((2, 8))
