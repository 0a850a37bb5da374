"""Rules of matrix products, Softmax and Concat, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.region import Region
from flexpie.core.rules import rule_for
from tests.unit.core.rule_checks import Case, bound_case, check, run, values

SIZES = st.integers(1, 7)
SEEDS = st.integers(0, 9999)
OPSETS = st.sampled_from((7, 11, 13, 17, 21))


@given(
    sizes=st.tuples(SIZES, SIZES, SIZES),
    transposed=st.tuples(st.booleans(), st.booleans()),
    c=st.sampled_from((None, "", "N", "1N", "M1", "MN", "1")),
    opset=OPSETS,
    seed=SEEDS,
)
def test_part_of_gemm_equals_the_whole(
    sizes: tuple[int, int, int], transposed: tuple[bool, bool], c: str | None, opset: int, seed: int
) -> None:
    m, k, n = sizes
    a = values((k, m) if transposed[0] else (m, k), 1)
    b = values((n, k) if transposed[1] else (k, n), 2)
    if c is None and opset < 11:
        c = "N"
    lengths = {"M": m, "N": n, "1": 1}
    bias = [] if c is None else [values([lengths[letter] for letter in c], 3)]
    attributes = {"transA": int(transposed[0]), "transB": int(transposed[1]), "alpha": 0.5, "beta": 2.0}
    check(Case("Gemm", (a, b, *bias), attributes, opset), seed=seed)


def test_gemm_takes_the_rows_of_its_output_channels() -> None:
    case = Case("Gemm", (values((2, 512)), values((10, 512), 1), values((10,), 2)), {"transB": 1})
    bound = bound_case(case, run(case))
    rule, produced = rule_for(bound.operator), (Region.of((0, 2), (4, 7)),)
    assert rule.needs(bound, produced) == (
        Region.of((0, 2), (0, 512)),
        Region.of((4, 7), (0, 512)),
        Region.of((4, 7)),
    )
    assert rule.flops(bound, produced) == 2 * 512 * 6


@given(
    batch=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(SIZES, SIZES, SIZES),
    ranks=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ones=st.tuples(st.booleans(), st.booleans()),
    opset=OPSETS,
    seed=SEEDS,
)
def test_part_of_matmul_equals_the_whole(
    batch: list[int],
    sizes: tuple[int, int, int],
    ranks: tuple[int, int],
    ones: tuple[bool, bool],
    opset: int,
    seed: int,
) -> None:
    m, k, n = sizes
    shapes = []
    for rank, matrix, one in ((ranks[0], [m, k], ones[0]), (ranks[1], [k, n], ones[1])):
        lead = batch[len(batch) - min(rank - 2, len(batch)) :] if rank > 2 else []
        shapes.append(([1] * len(lead) if one else lead) + matrix if rank > 1 else [k])
    check(Case("MatMul", (values(shapes[0], 1), values(shapes[1], 2)), {}, opset), seed=seed)


@given(
    op_type=st.sampled_from(("Softmax", "LogSoftmax", "Hardmax")),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    opset=OPSETS,
    axis=st.one_of(st.none(), st.integers(-4, 3)),
    seed=SEEDS,
)
def test_part_of_softmax_equals_the_whole(
    op_type: str, shape: list[int], opset: int, axis: int | None, seed: int
) -> None:
    attributes = {} if axis is None else {"axis": max(-len(shape), min(axis, len(shape) - 1))}
    if axis is None and len(shape) == 1:
        attributes = {"axis": 0}
    check(Case(op_type, (values(shape),), attributes, opset), seed=seed)


@pytest.mark.parametrize(("opset", "produced"), [(11, ((2, 3), (0, 4), (0, 5))), (13, ((2, 3), (0, 4), (1, 2)))])
def test_softmax_was_flat_before_version_13(opset: int, produced: tuple[tuple[int, int], ...]) -> None:
    case = Case("Softmax", (values((3, 4, 5)),), {"axis": 1}, opset)
    bound = bound_case(case, run(case))
    wanted = (Region.of((2, 3), (2, 3), (1, 2)),)
    assert rule_for(bound.operator).produces(bound, wanted) == (Region.of(*produced),)


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any),
    axis=st.integers(-4, 3),
    opset=OPSETS,
    seed=SEEDS,
)
def test_part_of_concat_equals_the_whole(
    shape: list[int], lengths: list[int], axis: int, opset: int, seed: int
) -> None:
    axis = max(-len(shape), min(axis, len(shape) - 1))
    if opset < 11:
        axis %= len(shape)
    arrays = []
    for index, length in enumerate(lengths):
        shape[axis] = length
        arrays.append(values(shape, index))
    check(Case("Concat", tuple(arrays), {"axis": axis}, opset), seed=seed)


def test_concat_leaves_out_what_is_not_wanted() -> None:
    case = Case("Concat", tuple(values((1, 4, 3), index) for index in range(3)), {"axis": 1})
    bound = bound_case(case, run(case))
    assert rule_for(bound.operator).needs(bound, (Region.of((0, 1), (5, 9), (1, 3)),)) == (
        None,
        Region.of((0, 1), (1, 4), (1, 3)),
        Region.of((0, 1), (0, 1), (1, 3)),
    )


def test_sum_over_the_inner_axis_is_never_divided() -> None:
    case = Case("MatMul", (values((2, 6, 8)), values((8, 5), 1)))
    bound = bound_case(case, run(case))
    rule, produced = rule_for(bound.operator), (Region.of((1, 2), (2, 4), (0, 3)),)
    assert rule.needs(bound, produced) == (Region.of((1, 2), (2, 4), (0, 8)), Region.of((0, 8), (0, 3)))
    assert rule.flops(bound, produced) == 2 * 8 * 6
    assert np.prod((2, 6, 5)) == bound.output().size
