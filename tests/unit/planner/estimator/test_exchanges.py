"""The s-Estimator: what it is told, and that more bytes never take less time."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.planner.cost import Array
from flexpie.planner.estimator import Estimators, LearnedCostModel, load_estimators
from flexpie.planner.estimator.exchanges import (
    FEATURES,
    ExchangeFeatures,
    MeasuredExchanges,
    cross_validated_exchanges,
    measured_exchanges,
    predict_exchanges,
    train_exchanges,
)
from flexpie.planner.estimator.training import errors, fold_of
from flexpie.planner.physics import PhysicsCostModel

LINK = Link(125e6, 5e-5)


def cluster(*speeds: float, topology: Topology = Topology.MESH, link: Link = LINK) -> Cluster:
    return Cluster(tuple(Device(f"d{at}", f"h:{at}", speed) for at, speed in enumerate(speeds)), link, topology)


def traffic(rng: np.random.Generator, ends: int, count: int) -> Array:
    """Exchanges among all ends, half of the pairs silent."""
    sizes = 10 ** rng.uniform(2, 6.5, (count, ends, ends)) * rng.integers(0, 2, (count, ends, ends))
    return np.asarray(sizes * (1 - np.eye(ends)))


def synthetic(places: int = 3, count: int = 300) -> MeasuredExchanges:
    """Physics is 30 % too fast, and 10 % more for each message."""
    rng = np.random.default_rng(0)
    asked, seconds, devices = [], [], []
    for place in range(places):
        where = cluster(1.0, 0.3, 0.2 + place / 10)
        model = PhysicsCostModel(where)
        for nbytes in traffic(rng, 4, count):
            nbytes[0, 1] += 1000.0
            messages = float((nbytes > 0).sum())
            asked.append((where, nbytes))
            seconds.append(float(model.exchange_seconds(nbytes)) * (1.3 + 0.1 * messages))
            devices.append(f"place {place}")
    names = np.array([f"x{index}" for index in range(len(asked))], object)
    return measured_exchanges(asked, names, np.array(devices, object), np.array(seconds))


def test_features_are_of_the_busiest_end() -> None:
    where = cluster(1.0, 1.0, 1.0)
    nbytes = np.zeros((4, 4))
    nbytes[0, 1] = nbytes[0, 2] = 1e6
    maker = ExchangeFeatures(where)
    found = dict(zip(FEATURES, maker.features(nbytes), strict=True))
    rates = where.devices[0].rates
    unit = rates.send_seconds + rates.receive_seconds + rates.start_seconds
    assert maker.unit_seconds == pytest.approx(unit)
    assert np.exp(found["messages"]) == pytest.approx(2 * rates.send_seconds / unit + 1e-3)
    assert np.exp(found["bytes"]) == pytest.approx(2e6 * rates.end_seconds_per_byte / unit + 1e-3)
    assert np.exp(found["port"]) == pytest.approx(2e6 / 125e6 / unit + 1e-3)
    assert found["all_messages"] == 2
    assert maker.features(np.stack((nbytes, nbytes))).shape == (2, len(FEATURES))


def test_a_known_law_is_learned() -> None:
    measured = synthetic()
    found = errors(measured.seconds, cross_validated_exchanges(measured, fold_of(measured.configurations)))
    assert found.median < 0.05
    assert found.mean < 0.1


def test_what_is_larger_than_anything_measured_takes_its_time() -> None:
    measured = synthetic(1)
    trees, where = train_exchanges(measured), cluster(1.0, 0.3, 0.2)
    maker, nbytes = ExchangeFeatures(where), np.zeros((4, 4))
    nbytes[0, 1] = 1e12
    physics = maker.physics_seconds(nbytes)
    seconds = predict_exchanges(trees, maker.features(nbytes)[None], np.array([physics]), maker.unit_seconds)
    assert seconds[0] >= physics / 2


@cache
def learned() -> Estimators:
    return Estimators(load_estimators().compute, train_exchanges(synthetic(1)))


@given(st.integers(0, 2**32 - 1), st.sampled_from(list(Topology)), st.floats(0.05, 2), st.sampled_from([6e6, 125e6]))
def test_more_bytes_never_take_less_time_and_none_take_none(
    seed: int, topology: Topology, speed: float, bandwidth: float
) -> None:
    where = cluster(1.0, speed, speed, 0.2, topology=topology, link=Link(bandwidth, 1e-4))
    model = LearnedCostModel(where, learned())
    rng = np.random.default_rng(seed)
    nbytes = traffic(rng, 5, 20)
    more = nbytes + traffic(rng, 5, 20) * rng.integers(0, 2, (20, 5, 5))
    less, greater = model.exchange_seconds(nbytes), model.exchange_seconds(more)
    assert less.shape == (20,)
    assert (greater >= less).all()
    assert (less > 0).all()
    assert model.exchange_seconds(np.zeros((5, 5))) == 0
