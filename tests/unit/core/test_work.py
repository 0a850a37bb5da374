"""Shares of split and redundant work, by hand."""

from __future__ import annotations

import pytest

from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import DATA_PARALLEL, IN_H, OUT_C, REPLICATED, Scheme, single
from flexpie.core.work import WorkShares, work_shares
from tests.unit.core.test_footprint import convolutions


def shares(scheme: Scheme, fused: bool = True) -> WorkShares:
    graph = convolutions((3, 1, 1), (3, 1, 1))
    weights = (1.0,) * 4 if scheme.device is None else tuple(float(i == scheme.device) for i in range(4))
    cuts = [(0, 2)] if fused else [(0, 1), (1, 2)]
    plan = Plan("", ("a", "b", "c", "d"), tuple(Segment(*cut, scheme, weights) for cut in cuts))
    return work_shares(graph, plan)


def test_exchanged_rows_do_nothing_twice() -> None:
    found = shares(IN_H, fused=False)
    assert (found.split, found.redundant) == pytest.approx((1.0, 0.0))


def test_fused_rows_compute_their_halos() -> None:
    # The first layer computes 9 + 10 + 10 + 9 rows for 32; the two layers are equal work.
    found = shares(IN_H)
    assert (found.split, found.redundant) == pytest.approx((1.0, 6 / 32 / 2))


def test_fused_channels_compute_the_first_layer_everywhere() -> None:
    found = shares(OUT_C)
    assert (found.split, found.redundant) == pytest.approx((0.5, 1.5))


def test_devices_that_take_turns_do_nothing_twice() -> None:
    assert shares(DATA_PARALLEL) == WorkShares(0.0, 0.0)


def test_whole_models_are_not_split() -> None:
    found = shares(REPLICATED)
    assert (found.split, found.redundant) == pytest.approx((0.0, 3.0))
    found = shares(single(2))
    assert (found.split, found.redundant) == pytest.approx((0.0, 0.0))
