from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.exchange import copies_for
from flexpie.core.region import Region
from flexpie.core.scheme import IN_H, OUT_C, REPLICATED, SPLITTING, owned_regions
from flexpie.planner.layouts import NOTHING, Layout, TensorKind
from flexpie.planner.physics import PhysicsCostModel
from tests.unit.planner.graphs import cluster_of

SHAPE = (1, 4, 9, 7)


@st.composite
def layouts(draw: st.DrawFn, devices: int) -> Layout:
    """Any box for each device, nothing for some and for the master."""
    boxes: list[Region | None] = []
    for _ in range(devices):
        bounds = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in SHAPE]
        region = Region.of(*((low, high) for low, high in bounds))
        boxes.append(None if region.is_empty else region)
    return (*boxes, None)


@given(st.data())
def test_bytes_on_arrays_are_those_of_the_region_calculus(data: st.DataObject) -> None:
    devices = data.draw(st.integers(1, 4))
    kind = TensorKind(SHAPE, 4, devices + 1, 4)
    shares = data.draw(st.lists(st.sampled_from((0.5, 1.0, 2.0)), min_size=devices, max_size=devices))
    owned = (*owned_regions(data.draw(st.sampled_from(SPLITTING)), SHAPE, shares), None)
    held = [
        kind.layout(owned),
        *(kind.layout(data.draw(layouts(devices))) for _ in range(data.draw(st.integers(0, 2)))),
    ]
    needs = [kind.layout(data.draw(layouts(devices))) for _ in range(3)]
    holding = kind.holding(kind.layout(owned), held)
    found = kind.nbytes(np.array([holding] * 3), np.array(needs))
    owners = {end: region for end, region in enumerate(owned) if region is not None}
    for at, need in enumerate(needs):
        expected = np.zeros((devices + 1, devices + 1))
        for end, region in enumerate(kind.regions(need)):
            if region is not None:
                boxes = [box for layout in held if (box := kind.regions(layout)[end]) is not None]
                for copy in copies_for("t", end, region, boxes, owners):
                    expected[copy.source, end] += copy.region.size * 4
        assert found[at] == pytest.approx(expected)


def test_neighbours_exchange_halos() -> None:
    kind = TensorKind((1, 1, 8, 10), 4, 3, 4)
    rows = kind.layout((Region.of((0, 1), (0, 1), (0, 4), (0, 10)), Region.of((0, 1), (0, 1), (4, 8), (0, 10)), None))
    halos = kind.layout((Region.of((0, 1), (0, 1), (0, 5), (0, 10)), Region.of((0, 1), (0, 1), (3, 8), (0, 10)), None))
    nbytes = kind.nbytes(np.array([kind.holding(rows, (rows,))]), np.array([halos]))
    assert nbytes[0].tolist() == [[0, 40, 0], [40, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("side", [4095, 4097])
def test_bytes_of_large_tensors_are_exact(side: int) -> None:
    """On both sides of what float32 holds."""
    kind = TensorKind((1, 1, side, side), 1, 3, 1)
    part = Region.of((0, 1), (0, 1), (0, side), (0, side - 2))
    here, there = kind.layout((Region.whole((1, 1, side, side)), None, None)), kind.layout((None, part, None))
    nbytes = kind.nbytes(np.array([kind.holding(here, (here,))]), np.array([there]))
    assert nbytes[0, 0, 1] == side * (side - 2)
    assert nbytes.sum() == nbytes[0, 0, 1]


def test_what_was_received_is_not_sent_again() -> None:
    kind = TensorKind(SHAPE, 4, 3, 4)
    owned = kind.layout((*owned_regions(IN_H, SHAPE, (1, 1)), None))
    everywhere = kind.layout((*owned_regions(REPLICATED, SHAPE, (1, 1)), None))
    before = kind.holding(owned, (owned,))
    (after,) = kind.received(np.array([before]), np.array([everywhere])).tolist()
    assert kind.nbytes(np.array([before]), np.array([everywhere])).sum() > 0
    assert kind.nbytes(np.array([after]), np.array([everywhere])).sum() == 0
    assert kind.holdings[after].sources == owned
    assert kind.received(np.array([after]), np.array([owned])).tolist() == [after]


def test_a_scalar_travels() -> None:
    kind = TensorKind((), 8, 3, 8)
    here = kind.layout((Region(), None, None))
    there = kind.layout((None, Region(), None))
    assert kind.nbytes(np.array([kind.holding(here, (here,))]), np.array([there]))[0, 0, 1] == 8


def test_hulls_go_end_by_end() -> None:
    kind = TensorKind(SHAPE, 4, 3, 4)
    rows = kind.layout((*owned_regions(IN_H, SHAPE, (1, 1)), None))
    channels = kind.layout((*owned_regions(OUT_C, SHAPE, (1, 1)), None))
    everywhere = kind.layout((*owned_regions(REPLICATED, SHAPE, (1, 1)), None))
    first, second = np.array([rows, NOTHING, rows, NOTHING]), np.array([channels, rows, NOTHING, NOTHING])
    assert kind.hulls(first, second).tolist() == [everywhere, rows, rows, NOTHING]


def test_seconds_of_exchanges_are_remembered_and_right() -> None:
    kind = TensorKind(SHAPE, 4, 3, 4)
    model = PhysicsCostModel(cluster_of(1.0, 1.0))
    numbers = [kind.layout((*owned_regions(scheme, SHAPE, (1, 1)), None)) for scheme in (IN_H, OUT_C)]
    holdings = np.array([kind.holding(number, (number,)) for number in numbers])
    first = kind.exchange_seconds(model, holdings, np.array(numbers[:1]))
    both = kind.exchange_seconds(model, holdings, np.array(numbers))
    assert both.shape == (2, 2)
    assert (both[:, :1] == first).all()
    assert both[0, 0] == both[1, 1] == 0
    assert both[0, 1] > 0
