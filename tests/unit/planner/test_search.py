from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from flexpie.core.cluster import MASTER_NAME, Cluster
from flexpie.core.plan import Segment
from flexpie.core.scheme import GRID_2D, IN_H, IN_W, OUT_C, REPLICATED, single
from flexpie.planner.candidates import all_candidates, share_choices
from flexpie.planner.evaluation import evaluate
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from flexpie.planner.search import search
from flexpie.planner.table import CostTable, cost_table
from tests.unit.planner.graphs import GraphWriter, RandomCostModel, cluster_of, conv_chain, residual_net


def lengths_of(table: CostTable, stop: int) -> dict[tuple[str, tuple[float, ...]], int]:
    """Longest segment that ends at a cut, by scheme and shares."""
    found: dict[tuple[str, tuple[float, ...]], int] = {}
    for first, cut in enumerate(table.cuts):
        for row, end in enumerate(cut.stop):
            if end == stop:
                segment = table.segment(first, row)
                key = (str(segment.scheme), segment.shares)
                found[key] = max(found.get(key, 0), stop - first)
    return found


def test_shares_to_choose_from() -> None:
    assert share_choices(cluster_of(0.2, 0.2, 0.2)) == ((1.0, 1.0, 0.0), (1.0, 1.0, 1.0))
    assert share_choices(cluster_of(1.0, 0.5, 2.0)) == ((0.5, 0.0, 1.0), (0.5, 0.25, 1.0), (1.0, 1.0, 1.0))
    assert share_choices(cluster_of(1.0, 0.5, 2.0), frozenset({2})) == ((1.0, 0.5, 0.0), (1.0, 1.0, 0.0))
    assert share_choices(cluster_of(1.0)) == ()


def _with_slow_port(cluster: Cluster, slow: str, factor: float) -> Cluster:
    """The links of one device have a part of the others' bandwidth."""
    link = replace(cluster.link, bandwidth_bytes_per_second=cluster.link.bandwidth_bytes_per_second * factor)
    ends = [MASTER_NAME, *(device.name for device in cluster.devices)]
    pairs = [pair for end in ends if end != slow for pair in ((slow, end), (end, slow))]
    return replace(cluster, links=dict.fromkeys(pairs, link))


def test_shares_leave_out_devices_with_slow_links_too() -> None:
    found = share_choices(_with_slow_port(cluster_of(1.0, 2.0, 0.5), "pi-1", 0.1))
    slow = {(1.0, 0.0, 0.5)}  # beside the fastest two
    assert set(found) == set(share_choices(cluster_of(1.0, 2.0, 0.5))) | slow
    nearly = _with_slow_port(cluster_of(1.0, 2.0, 0.5), "pi-1", 0.8)
    assert share_choices(nearly) == share_choices(cluster_of(1.0, 2.0, 0.5)), "links differ a little always"


def test_a_device_with_slow_links_that_is_the_fastest_is_left_out() -> None:
    speeds = (1.0, 1.1, 1.0, 1.0)
    graph, slow = residual_net(), _with_slow_port(cluster_of(*speeds, bandwidth=1e8), "pi-1", 1e-3)
    found = make_plan(graph, slow, cost_model=PhysicsCostModel(slow)).latency_seconds
    three = replace(slow, devices=(slow.devices[0], *slow.devices[2:]))
    assert found <= make_plan(graph, three, cost_model=PhysicsCostModel(three)).latency_seconds * 1.001


def test_candidates_hold_every_device_alone_and_every_subset_replicated() -> None:
    candidates = all_candidates(3, share_choices(cluster_of(1.0, 1.0, 1.0)))
    assert {(single(d), tuple(float(i == d) for i in range(3))) for d in range(3)} <= set(candidates)
    assert (REPLICATED, (1.0, 1.0, 0.0)) in candidates
    assert {scheme for scheme, _ in candidates} >= {IN_H, IN_W, OUT_C, GRID_2D}


def test_segments_grow_until_everything_is_replicated_and_no_further() -> None:
    graph, cluster = conv_chain(6, size=16), cluster_of(1.0, 1.0, 1.0, 1.0)
    table = cost_table(graph, 4, all_candidates(4, share_choices(cluster)), PhysicsCostModel(cluster))
    longest = lengths_of(table, 6)
    everyone = (1.0, 1.0, 1.0, 1.0)
    assert longest["OutC", everyone] == 1
    assert longest["Replicated", everyone] == 1
    assert longest["Single(2)", (0.0, 0.0, 1.0, 0.0)] == 1
    assert longest["InH", everyone] == 6  # after five layers the first device lacks 16 - 4 - 5 rows


def test_growth_stops_where_every_device_needs_all_rows() -> None:
    graph, cluster = conv_chain(8, size=6), cluster_of(1.0, 1.0)
    table = cost_table(graph, 2, all_candidates(2, share_choices(cluster)), PhysicsCostModel(cluster))
    assert lengths_of(table, 8)["InH", (1.0, 1.0)] == 3


def test_a_residual_keeps_growth_going_until_a_split_loses_nothing() -> None:
    graph, cluster = residual_net(2), cluster_of(1.0, 1.0)
    table = cost_table(graph, 2, all_candidates(2, share_choices(cluster)), PhysicsCostModel(cluster))
    longest = lengths_of(table, 3)  # in front of the Add: the convolutions and the residual's producer
    assert longest["OutC", (1.0, 1.0)] == 2
    assert table.complete


def test_equal_divisions_are_tried_once() -> None:
    writer = GraphWriter()
    graph = writer.graph(writer.conv(writer.input(1, 4, 1, 9), 4))  # one row: InH is one device
    cluster = cluster_of(1.0, 1.0)
    table = cost_table(graph, 2, all_candidates(2, share_choices(cluster)), PhysicsCostModel(cluster))
    names = [str(table.candidates[number][0]) for number in table.cuts[-1].candidates]
    assert sorted(names) == ["InW", "OutC", "Replicated", "Single(0)", "Single(1)"]


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_is_solved_as_by_trying_every_plan(seed: int) -> None:
    graph, cluster, model = conv_chain(3, size=6, channels=3), cluster_of(1.0, 1.0), RandomCostModel(2, seed)
    table = cost_table(graph, 2, all_candidates(2, share_choices(cluster)), model)
    result = search(table)
    plans = []
    for stops in ((3,), (1, 3), (2, 3), (1, 2, 3)):
        for chosen in itertools.product(table.candidates, repeat=len(stops)):
            firsts = (0, *stops[:-1])
            segments = [
                Segment(first, stop, scheme, shares)
                for first, stop, (scheme, shares) in zip(firsts, stops, chosen, strict=True)
            ]
            plans.append(evaluate(graph, cluster, segments, model).predicted_seconds)
    assert result.exact
    assert result.seconds == pytest.approx(min(plans), abs=1e-7)


def test_too_many_states_make_the_result_inexact_not_wrong() -> None:
    graph, cluster = residual_net(3), cluster_of(1.0, 0.7, 0.4)
    model = RandomCostModel(3, 3)
    table = cost_table(graph, 3, all_candidates(3, share_choices(cluster)), model)
    hurried, thorough = search(table, most_transitions=0), search(table, most_transitions=10**7)
    assert thorough.exact
    assert not hurried.exact
    assert hurried.seconds >= thorough.seconds - 1e-9
    plan = evaluate(graph, cluster, hurried.segments, model)
    assert plan.predicted_seconds == pytest.approx(hurried.seconds, abs=1e-6)


def test_free_exchanges_divide_the_work_and_dear_ones_do_not() -> None:
    graph, cluster = conv_chain(3), cluster_of(1.0, 1.0)
    candidates = all_candidates(2, share_choices(cluster))
    free = search(cost_table(graph, 2, candidates, RandomCostModel(2, 1, True, message_seconds=0, byte_seconds=0)))
    dear = search(cost_table(graph, 2, candidates, RandomCostModel(2, 1, True, message_seconds=1e6)))
    assert all(segment.scheme.device is None for segment in free.segments)
    assert all(segment.scheme == dear.segments[0].scheme for segment in dear.segments)
    assert dear.segments[0].scheme.device is not None


def test_dear_weights_are_divided() -> None:
    graph, cluster = conv_chain(2, size=4, channels=64), cluster_of(1.0, 1.0)
    table = cost_table(graph, 2, all_candidates(2, share_choices(cluster)), PhysicsCostModel(cluster))
    alone, divided = search(table), search(table, [1.0, 1.0])
    assert {segment.scheme.device is not None for segment in alone.segments} == {True}
    assert divided.seconds > alone.seconds
    assert search(table, [1.0, 0.0]).segments[0].scheme == single(1)
