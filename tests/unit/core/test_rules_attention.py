"""Rules of Attention and RotaryEmbedding, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Array, Case, bound_case, check, run, values

SEEDS = st.integers(0, 9999)


@st.composite
def attentions(draw: st.DrawFn) -> Case:
    batch, keys, sharing = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    queries, tokens, size, width = (draw(st.integers(1, 5)) for _ in range(4))
    heads = keys * sharing
    flat = draw(st.booleans())
    shapes = ((batch, heads, queries, size), (batch, keys, tokens, size), (batch, keys, tokens, width))
    inputs: list[Array] = []
    for index, shape in enumerate(shapes):
        array = values(shape, index)
        inputs.append(np.moveaxis(array, 1, 2).reshape(shape[0], shape[2], -1) if flat else array)
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": keys} if flat else {}
    attributes["is_causal"] = draw(st.integers(0, 1))
    mask = draw(st.sampled_from((None, 2, 3, 4)))
    if mask:
        outer = (batch, heads, queries)[4 - mask :]
        mask_shape = [*(1 if draw(st.booleans()) else length for length in outer), tokens]
        kind = draw(st.sampled_from(("float32", "bool")))
        inputs.append(values(mask_shape, 4, kind))
    opset = draw(st.sampled_from((23, 24, 25)))
    if opset == 25:
        attributes |= {"left_window_size": draw(st.integers(-1, 3)), "right_window_size": draw(st.integers(-1, 2))}
    return Case("Attention", tuple(inputs), attributes, opset)


@pytest.mark.recent_onnxruntime
@given(case=attentions(), seed=SEEDS)
def test_part_of_attention_equals_the_whole(case: Case, seed: int) -> None:
    whole = run(case)[0]
    if whole is not None and np.isfinite(whole).all():  # a row of the mask may be all false
        check(case, seed=seed)


def test_state_of_earlier_calls_is_whole() -> None:
    state = values((1, 2, 3, 4), 5)
    inputs = (values((1, 2, 5, 4)), values((1, 2, 5, 4), 1), values((1, 2, 5, 4), 2), None, state, state)
    case = Case("Attention", inputs, {}, 23, outputs=(True, True, True))
    check(case, divided=False)


def test_heads_share_their_keys() -> None:
    inputs = (values((1, 6, 5, 4)), values((1, 2, 7, 4), 1), values((1, 2, 7, 3), 2))
    case = Case("Attention", inputs, {}, 23)
    bound = bound_case(case, run(case))
    rule = rule_for(bound.operator)
    produced = rule.produces(bound, (Region.of((0, 1), (4, 5), (1, 3), (0, 1)),))
    assert produced == (Region.of((0, 1), (4, 5), (1, 3), (0, 3)),)
    assert rule.needs(bound, produced)[:3] == (
        Region.of((0, 1), (4, 5), (1, 3), (0, 4)),
        Region.of((0, 1), (1, 2), (0, 7), (0, 4)),
        Region.of((0, 1), (1, 2), (0, 7), (0, 3)),
    )
    assert rule.produces(bound, (Region.of((0, 1), (2, 5), (1, 3), (0, 1)),)) == (
        Region.of((0, 1), (0, 6), (1, 3), (0, 3)),
    )


@given(
    batch=st.integers(1, 3), heads=st.integers(1, 4), tokens=st.integers(1, 5), half=st.integers(1, 3),
    flat=st.booleans(), positions=st.booleans(), interleaved=st.integers(0, 1), partial=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_part_of_rotary_embedding_equals_the_whole(
    batch: int,
    heads: int,
    tokens: int,
    half: int,
    flat: bool,
    positions: bool,
    interleaved: int,
    partial: bool,
    seed: int,
) -> None:
    size = 2 * half + (2 if partial else 0)
    attributes: dict[str, Any] = {"interleaved": interleaved}
    if partial:
        attributes["rotary_embedding_dim"] = 2 * half
    if flat or partial:
        attributes["num_heads"] = heads
    x = values((batch, tokens, heads * size) if flat else (batch, heads, tokens, size))
    caches = [values((9, half) if positions else (batch, tokens, half), index) for index in (1, 2)]
    inputs = [x, *caches]
    if positions:
        inputs.append(np.random.default_rng(3).integers(0, 9, (batch, tokens)).astype(np.int64))
    check(Case("RotaryEmbedding", tuple(inputs), attributes, 23), seed=seed)
