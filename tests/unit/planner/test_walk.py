from __future__ import annotations

import numpy as np

from flexpie.core.boundary import Boundary
from flexpie.core.plan import Segment
from flexpie.core.scheme import IN_H, IN_W
from flexpie.planner.walk import Walk, walked
from tests.unit.planner.graphs import conv_chain


def test_a_remembered_walk_is_that_of_its_segments() -> None:
    graph = conv_chain(2)
    plans = [
        tuple(Segment(at, at + 1, scheme, shares) for at in range(2))
        for scheme in (IN_H, IN_W)
        for shares in ((1.0, 1.0), (1.0, 2.0), (0.0, 1.0))
    ]
    for segments in (*plans, *plans):
        walk = Walk(graph, 2)
        visits = list(walk.visits(segments))
        found = walked(graph, 2, segments)
        assert [visit.segment for visit in found.visits] == list(segments)
        assert [visit.copies for visit in found.visits] == [visit.copies for visit in visits]
        expected = [*(visit.nbytes for visit in visits), walk.gather()]
        assert all(map(np.array_equal, found.exchanges, expected))


def test_walks_are_remembered_for_each_kind_of_boundary() -> None:
    graph = conv_chain(2)
    segments = [Segment(at, at + 1, IN_H, (1.0, 1.0)) for at in range(2)]
    exact, narrow = (walked(graph.with_boundary(item), 2, segments).exchanges[1] for item in Boundary)
    assert exact.sum() == 2 * narrow.sum() > 0


def test_few_walks_are_remembered() -> None:
    graph = conv_chain(2)
    plans = [(Segment(0, 2, IN_H, (1.0, float(share))),) for share in range(1, 10)]
    walks = [walked(graph, 2, segments) for segments in plans]
    assert walked(graph, 2, plans[-1]) is walks[-1]
    assert walked(graph, 2, plans[0]) is not walks[0]
