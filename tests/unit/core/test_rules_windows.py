"""Rules of Conv and pooling, against onnxruntime on random geometry, and against halos computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie.core.graph import AttributeValue
from flexpie.core.region import Interval, Region
from flexpie.core.rules import rule_for
from flexpie.core.rules.windows import Window
from tests.unit.core.rule_checks import Case, bound_case, check, run, values

OPSETS = (7, 11, 13, 17, 21)
THOROUGH = settings(max_examples=3 * settings().max_examples)


@st.composite
def geometries(draw: st.DrawFn, *, dilated: bool = True, pads_below_kernel: bool = False) -> dict[str, Any]:
    """Spatial shape and window attributes; at least one window fits. onnxruntime pools only with pads below the
    kernel's size."""
    rank = draw(st.sampled_from((1, 2, 2, 2, 3)))
    largest = {1: 12, 2: 12, 3: 6}[rank]
    lengths = draw(st.lists(st.integers(1, largest), min_size=rank, max_size=rank))
    kernel = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    strides = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    dilations = draw(st.lists(st.integers(1, 3 if dilated else 1), min_size=rank, max_size=rank))
    auto_pad = draw(st.sampled_from(("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")))
    if auto_pad.startswith("SAME"):  # onnxruntime has no dilated windows with it
        dilations = [1] * rank
    pads = draw(st.lists(st.integers(0, 5), min_size=2 * rank, max_size=2 * rank))
    if pads_below_kernel:
        pads = [min(pad, kernel[index % rank] - 1) for index, pad in enumerate(pads)]
    for axis in range(rank):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        room = lengths[axis] + (pads[axis] + pads[axis + rank] if auto_pad == "NOTSET" else 0)
        if room < extent:
            lengths[axis] += extent - room
    attributes: dict[str, Any] = {"strides": tuple(strides)}
    if dilated or draw(st.booleans()):
        attributes["dilations"] = tuple(dilations)
    if auto_pad == "NOTSET":
        attributes["pads"] = tuple(pads)
    else:
        attributes["auto_pad"] = auto_pad
    return {"lengths": tuple(lengths), "kernel": tuple(kernel), "attributes": attributes}


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    geometry = draw(geometries())
    groups, inputs_per_group, outputs_per_group = (draw(st.integers(1, 3)) for _ in range(3))
    if draw(st.booleans()):
        inputs_per_group = outputs_per_group = 1
    batch = draw(st.integers(1, 2))
    x = values((batch, groups * inputs_per_group, *geometry["lengths"]), 1)
    w = values((groups * outputs_per_group, inputs_per_group, *geometry["kernel"]), 2)
    b = [values((groups * outputs_per_group,), 3)] if draw(st.booleans()) else []
    attributes = geometry["attributes"] | {"group": groups}
    if draw(st.booleans()):
        attributes["kernel_shape"] = geometry["kernel"]
    return Case("Conv", (x, w, *b), attributes, draw(st.sampled_from(OPSETS)), frozenset({1, 2}))


@st.composite
def poolings(draw: st.DrawFn) -> Case:
    op_type = draw(st.sampled_from(("MaxPool", "AveragePool", "LpPool")))
    opset = draw(st.sampled_from((7, 10, 11, 13, 17, 19, 21, 22)))
    since = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op_type]
    geometry = draw(geometries(dilated=opset >= since, pads_below_kernel=True))
    attributes = geometry["attributes"] | {"kernel_shape": geometry["kernel"]}
    if opset < since:
        attributes.pop("dilations", None)
    if opset >= {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[op_type]:
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    if op_type == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    x = values((draw(st.integers(1, 2)), draw(st.integers(1, 3)), *geometry["lengths"]), 1)
    return Case(op_type, (x,), attributes, opset)


@THOROUGH
@given(case=convolutions(), seed=st.integers(0, 9999))
def test_part_of_conv_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed, divided=None if "auto_pad" in case.attributes else True)


@THOROUGH
@given(case=poolings(), seed=st.integers(0, 9999))
def test_part_of_pooling_equals_the_whole(case: Case, seed: int) -> None:
    check(case, seed=seed, divided=None if "auto_pad" in case.attributes else True)


@st.composite
def sound_windows(draw: st.DrawFn) -> Window:
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    begin, end = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    extent = (kernel - 1) * dilation + 1
    length = draw(st.integers(max(1, extent - begin - end), 30))
    room = length + begin + end - extent
    count = room // stride + 1 + (draw(st.booleans()) and room % stride > 0)
    return Window(length, count, kernel, stride, dilation, begin, end)


@given(window=sound_windows(), data=st.data())
def test_rounding_finds_the_least_part_with_inputs(window: Window, data: st.DataObject) -> None:
    """Pads far beyond the kernel, which onnxruntime's pooling refuses, and every part of them."""
    assert window.is_sound
    start = data.draw(st.integers(0, window.count - 1))
    wanted = Interval(start, data.draw(st.integers(start + 1, window.count)))
    rounded = window.round(wanted)
    assert Interval(0, window.count).contains(rounded)
    assert rounded.contains(wanted)
    assert window.round(rounded) == rounded
    inputs, (begin, end) = window.inputs(rounded), window.pads(rounded)
    assert inputs.length > 0
    assert Interval(0, window.length).contains(inputs)
    assert 0 <= begin <= window.pad_begin
    assert 0 <= end <= window.pad_end
    room = inputs.length + begin + end - window.extent
    assert rounded.length in (room // window.stride + 1, -(-room // window.stride) + 1)
    for smaller in (Interval(rounded.start + 1, rounded.stop), Interval(rounded.start, rounded.stop - 1)):
        if rounded != Interval(0, window.count) and smaller.contains(wanted):
            assert window.span(smaller).intersect(Interval(0, window.length)).length == 0


def window(length: int, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Window:
    count = (length + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1
    return Window(length, count, kernel, stride, dilation, pad, pad)


@pytest.mark.parametrize(
    ("geometry", "outputs", "inputs", "pads"),
    [
        (window(56, 3, pad=1), (0, 14), (0, 15), (1, 0)),
        (window(56, 3, pad=1), (14, 28), (13, 29), (0, 0)),
        (window(56, 3, pad=1), (42, 56), (41, 56), (0, 1)),
        (window(56, 3, pad=1), (0, 56), (0, 56), (1, 1)),
        (window(224, 7, stride=2, pad=3), (28, 56), (53, 114), (0, 0)),
        (window(224, 7, stride=2, pad=3), (84, 112), (165, 224), (0, 2)),
        (window(112, 3, stride=2, pad=1), (0, 28), (0, 56), (1, 0)),
        (window(56, 1, stride=2), (14, 28), (28, 55), (0, 0)),
        (window(20, 3, pad=2, dilation=2), (4, 6), (2, 8), (0, 0)),
        (window(20, 3, pad=2, dilation=2), (0, 1), (0, 3), (2, 0)),
        # The first two windows see padding only: the first with an input comes along.
        (window(10, 2, pad=3), (0, 1), (0, 1), (3, 0)),
        (window(10, 2, pad=3), (14, 15), (9, 10), (0, 3)),
        # No window of the whole tensor sees an input: it cannot be divided.
        (Window(1, 2, kernel=1, stride=3, dilation=1, pad_begin=5, pad_end=0), (1, 2), (0, 1), (5, 0)),
    ],
)
def test_halos(geometry: Window, outputs: tuple[int, int], inputs: tuple[int, int], pads: tuple[int, int]) -> None:
    rounded = geometry.round(Interval(*outputs))
    assert geometry.inputs(rounded) == inputs
    assert geometry.pads(rounded) == pads
    room = geometry.inputs(rounded).length + sum(pads) - geometry.extent
    assert room // geometry.stride + 1 == rounded.length


@pytest.mark.parametrize(
    ("wanted", "produced", "channels", "groups"),
    [
        ((3, 4), (3, 4), (3, 6), 1),  # inside one group
        ((2, 4), (2, 4), (3, 6), 1),
        ((3, 5), (2, 6), (3, 9), 2),  # whole groups
        ((0, 8), (0, 8), (0, 12), 4),
        ((1, 8), (0, 8), (0, 12), 4),
    ],
)
def test_groups(wanted: tuple[int, int], produced: tuple[int, int], channels: tuple[int, int], groups: int) -> None:
    """12 input channels in 4 groups of 3 make 8 output channels, 2 per group."""
    case = Case("Conv", (values((1, 12, 5, 5)), values((8, 3, 1, 1), 1), values((8,), 2)), {"group": 4})
    bound = bound_case(case, run(case))
    rule, rest = rule_for(bound.operator), ((0, 5), (0, 5))
    made = rule.produces(bound, (Region.of((0, 1), wanted, *rest),))
    assert made == (Region.of((0, 1), produced, *rest),)
    needed = rule.needs(bound, made)
    assert needed == (
        Region.of((0, 1), channels, *rest),
        Region.of(produced, (0, 3), (0, 1), (0, 1)),
        Region.of(produced),
    )
    assert rule.local_form(bound, made, needed).attributes["group"] == groups


def test_depthwise_takes_any_range_of_channels() -> None:
    attributes: dict[str, AttributeValue] = {"group": 6, "pads": (1, 1, 1, 1)}
    case = Case("Conv", (values((1, 6, 8, 8)), values((6, 1, 3, 3), 1)), attributes)
    bound = bound_case(case, run(case))
    rule, produced = rule_for(bound.operator), (Region.of((0, 1), (2, 5), (4, 8), (0, 8)),)
    assert rule.produces(bound, produced) == produced
    needed = rule.needs(bound, produced)
    assert needed == (Region.of((0, 1), (2, 5), (3, 8), (0, 8)), Region.of((2, 5), (0, 1), (0, 3), (0, 3)))
    form = rule.local_form(bound, produced, needed)
    assert form.attributes == {"auto_pad": None, "pads": (0, 1, 1, 1), "group": 3}
    assert rule.flops(bound, produced) == 2 * 9 * (3 * 4 * 8)


@given(
    op_type=st.sampled_from(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    shape=st.lists(st.integers(1, 6), min_size=3, max_size=5),
    opset=st.sampled_from(OPSETS),
    seed=st.integers(0, 9999),
)
def test_part_of_global_pooling_equals_the_whole(op_type: str, shape: list[int], opset: int, seed: int) -> None:
    check(Case(op_type, (values(shape),), {}, opset), seed=seed)


def test_pooling_with_indices_is_whole() -> None:
    attributes: dict[str, AttributeValue] = {"kernel_shape": (2, 2), "strides": (2, 2)}
    case = Case("MaxPool", (values((1, 3, 8, 8)),), attributes, 13, outputs=(True, True))
    check(case, divided=False)
