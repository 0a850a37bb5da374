from __future__ import annotations

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Segment
from flexpie.core.scheme import single
from flexpie.planner.memory import memory_needs
from flexpie.planner.planning import make_plan
from flexpie.planner.sizing import MOST_DEVICES, fewest_devices, least_need
from tests.unit.planner.graphs import GraphWriter, cluster_of, conv_chain

WEIGHTY = conv_chain(3, size=4, channels=64)
ALONE = memory_needs(WEIGHTY, [Segment(0, 3, single(0), (1.0,))], 1)[0].total


def test_more_devices_need_less_each() -> None:
    needs = [least_need(WEIGHTY, devices) for devices in (1, 2, 4)]
    assert needs[0] == ALONE
    assert needs[1] < 0.6 * needs[0]
    assert needs[2] < 0.35 * needs[0]


def test_the_fewest_devices_are_the_first_number_that_fits() -> None:
    assert fewest_devices(WEIGHTY, ALONE) == 1
    count = fewest_devices(WEIGHTY, ALONE // 3)
    assert count is not None
    assert least_need(WEIGHTY, count) <= ALONE // 3 < least_need(WEIGHTY, count - 1)


def test_the_error_says_what_is_needed_what_is_there_and_what_would_do() -> None:
    budget = ALONE // 3
    with pytest.raises(FlexPieError) as caught:
        make_plan(WEIGHTY, cluster_of(1.0, 1.0, memory=(budget, budget // 2)))
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY
    assert f"and has {budget / 1e6:.1f} MB" in caught.value.message
    assert "pi-1 needs" in caught.value.message
    count = fewest_devices(WEIGHTY, budget)
    assert caught.value.remedy.endswith(f"{count} devices like pi-0 ({budget / 1e6:.1f} MB each) would hold it.")
    made = make_plan(WEIGHTY, cluster_of(*[1.0] * (count or 0), memory=[budget] * (count or 0)))
    assert all(need.total <= budget for need in memory_needs(WEIGHTY, made.plan.segments, count or 0))


def test_what_no_number_of_devices_holds_is_said() -> None:
    writer = GraphWriter()
    graph = writer.graph(writer.unknown(writer.input(1, 4, 64, 64)))  # runs whole
    with pytest.raises(FlexPieError) as caught:
        make_plan(graph, cluster_of(1.0, memory=(1000,)))
    assert f"of {MOST_DEVICES} devices each would need 0.1 MB." in caught.value.remedy


def test_a_single_device_without_the_memory_is_told_from_one_that_has_it() -> None:
    assert make_plan(WEIGHTY, cluster_of(1.0, 1.0, memory=(ALONE, None))).single_device_fits
    assert not make_plan(WEIGHTY, cluster_of(1.0, 0.1, memory=(ALONE - 1, None))).single_device_fits
