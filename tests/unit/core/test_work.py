"""Shares of split and redundant work, by hand."""

from __future__ import annotations

import pytest

from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import IN_H, OUT_C, REPLICATED, Scheme, single
from flexpie.core.work import work_shares
from tests.unit.core.test_footprint import convolutions


def shares(scheme: Scheme, fused: bool = True) -> tuple[float, float]:
    graph = convolutions((3, 1, 1), (3, 1, 1))
    weights = (1.0,) * 4 if scheme.device is None else tuple(float(i == scheme.device) for i in range(4))
    cuts = [(0, 2)] if fused else [(0, 1), (1, 2)]
    plan = Plan("", ("a", "b", "c", "d"), tuple(Segment(*cut, scheme, weights) for cut in cuts))
    found = work_shares(graph, plan)
    return found.split, found.redundant


def test_exchanged_rows_do_nothing_twice() -> None:
    assert shares(IN_H, fused=False) == (1.0, 0.0)


def test_fused_rows_compute_their_halos() -> None:
    # The first layer computes 9 + 10 + 10 + 9 rows for 32; the two layers are equal work.
    assert shares(IN_H) == (1.0, pytest.approx(6 / 32 / 2))


def test_fused_channels_compute_the_first_layer_everywhere() -> None:
    assert shares(OUT_C) == (0.5, pytest.approx(1.5))


def test_whole_models_are_not_split() -> None:
    assert shares(REPLICATED) == (0.0, pytest.approx(3.0))
    assert shares(single(2)) == (0.0, 0.0)
