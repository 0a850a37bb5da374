from __future__ import annotations

import pytest

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import single
from flexpie.planner.memory import memory_needs
from flexpie.planner.planning import make_plan
from flexpie.planner.rooms import plan_with_room
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain

SMALL, LARGE = conv_chain(2, size=4, channels=64), conv_chain(3, size=4, channels=64)
NEED = memory_needs(LARGE, [Segment(0, 3, single(0), (1.0,))], 1)[0].total


def left(graph: LayerGraph, plan: Plan, cluster: Cluster) -> Cluster:
    needs = memory_needs(graph, plan.segments, len(cluster.devices))
    budgets = [(device.memory_bytes or 0) - need.total for device, need in zip(cluster.devices, needs, strict=True)]
    return cluster_of(*(device.speed for device in cluster.devices), memory=budgets)


def test_without_limits_the_best_plan_is_made() -> None:
    cluster = cluster_of(1.0, 1.0)
    assert plan_with_room(SMALL, [LARGE], cluster).plan == make_plan(SMALL, cluster).plan


def test_a_plan_that_leaves_room_is_the_best_one() -> None:
    cluster = cluster_of(1.0, 1.0, memory=(3 * NEED, 3 * NEED))
    assert plan_with_room(SMALL, [LARGE], cluster).plan == make_plan(SMALL, cluster).plan


def test_an_earlier_plan_makes_room_for_a_later_one() -> None:
    writer = GraphWriter()
    undivided = writer.graph(writer.unknown(writer.input(1, 4, 77, 77)))  # needs 190 kB on one device
    weighty = conv_chain(1, size=4, channels=80)  # 240 kB
    cluster = cluster_of(1.0, 1.0, memory=(400_000, 180_000))
    alone = make_plan(weighty, cluster).plan
    with pytest.raises(FlexPieError) as caught:
        make_plan(undivided, left(weighty, alone, cluster))
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY
    earlier = plan_with_room(weighty, [undivided], cluster).plan
    assert earlier.participants == (0, 1)
    assert make_plan(undivided, left(weighty, earlier, cluster)).plan.participants == (0,)


def test_where_not_all_fit_the_first_is_planned_as_if_it_were_alone() -> None:
    cluster = cluster_of(1.0, 1.0, memory=(NEED, 10_000))
    assert plan_with_room(SMALL, [LARGE, LARGE], cluster).plan == make_plan(SMALL, cluster).plan


def test_what_does_not_fit_alone_is_refused() -> None:
    with pytest.raises(FlexPieError, match="does not fit"):
        plan_with_room(SMALL, [LARGE], cluster_of(1.0, 1.0, memory=(1000, 1000)))
