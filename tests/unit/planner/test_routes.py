"""Ports and links that an exchange passes, those of the master included."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flexpie.core.cluster import MASTER_NAME, Link
from flexpie.core.program import MASTER
from flexpie.planner.planning import make_plan
from flexpie.planner.routes import Routes, link_between
from tests.unit.planner.graphs import cluster_of, conv_chain

SLOW = Link(1e6, 5e-3)
CLUSTER = dataclasses.replace(cluster_of(1.0, 1.0, bandwidth=1e8), links={(MASTER_NAME, "pi-1"): SLOW})


def test_the_master_has_links_like_devices() -> None:
    assert link_between(CLUSTER, MASTER, 1) == link_between(CLUSTER, 2, 1) == SLOW
    assert link_between(CLUSTER, 1, MASTER) == link_between(CLUSTER, MASTER, 0) == CLUSTER.link


def test_what_comes_over_the_masters_slow_link_takes_longer() -> None:
    nbytes = np.zeros((3, 3))
    nbytes[2, 0], nbytes[2, 1] = 1e6, 1e6
    load = Routes(CLUSTER).load(nbytes)
    np.testing.assert_allclose(load.incoming_seconds, [0.01, 1.0, 0.0])
    np.testing.assert_allclose(load.outgoing_seconds, [0.0, 0.0, 1.01])
    assert load.latency_seconds == pytest.approx(5e-3)


def test_a_device_that_the_master_hardly_reaches_computes_nothing() -> None:
    graph = conv_chain(6, size=64, channels=32)
    assert make_plan(graph, cluster_of(0.1, 0.1)).plan.participants == (0, 1)
    slow = dataclasses.replace(
        cluster_of(0.1, 0.1), links={ends: Link(1e4, 0.1) for ends in (("", "pi-1"), ("pi-1", ""), ("pi-0", "pi-1"))}
    )
    assert make_plan(graph, slow).plan.participants == (0,)
