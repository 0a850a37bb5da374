"""The planner against independent solvers, on random small graphs and random costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flexpie.core.cluster import Cluster
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.exchange import copies_for
from flexpie.core.footprint import Footprint, owned_at_end, segment_footprints
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.program import MASTER
from flexpie.core.region import Region
from flexpie.core.scheme import REPLICATED, SPLITTING, single
from flexpie.planner.bounds import lower_bounds
from flexpie.planner.candidates import Candidate
from flexpie.planner.closer_bounds import LookAhead
from flexpie.planner.cost import CostModel, work_of
from flexpie.planner.evaluation import evaluate
from flexpie.planner.growth import Growth
from flexpie.planner.memory import memory_needs
from flexpie.planner.planning import PlanningResult, make_plan
from flexpie.planner.search import search, search_fitting
from flexpie.planner.states import Limits
from flexpie.planner.sweep import Sweep
from flexpie.planner.table import CostTable, assemble, cost_table, reliefs
from tests.conftest import LONG
from tests.random_plans import plans
from tests.unit.planner.graphs import GraphWriter, RandomCostModel, cluster_of

SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

_MOST_PLANS = 2000 if LONG else 400
"""Plans of the largest space in which all are tried."""
Boxes = Mapping[int, tuple[Region, ...]]


class BruteForce:
    """Tries every sequence of segments with every candidate. Shares with the planner only the region calculus."""

    def __init__(
        self,
        graph: LayerGraph,
        devices: int,
        candidates: Sequence[Candidate],
        model: CostModel,
        fits: Callable[[Sequence[Segment]], bool] = lambda _: True,
    ) -> None:
        self.graph, self.devices, self.candidates, self.model = graph, devices, candidates, model
        self.fits = fits
        self.best = math.inf
        self._known: dict[tuple[int, int, int], float] = {}
        self._footprints: dict[tuple[int, int, int], tuple[Footprint, ...]] = {}

    def seconds(self) -> float:
        """The least predicted time of all plans that fit; infinite if none does."""
        whole = {name: self.graph.tensors[name].whole for name in self.graph.inputs}
        owners = {name: {MASTER: region} for name, region in whole.items()}
        boxes: dict[str, Boxes] = {name: {MASTER: (region,)} for name, region in whole.items()}
        self._explore((), owners, boxes, 0.0)
        return self.best

    def _explore(
        self,
        segments: tuple[Segment, ...],
        owners: Mapping[str, Mapping[int, Region]],
        boxes: Mapping[str, Boxes],
        seconds: float,
    ) -> None:
        first, layers = segments[-1].stop if segments else 0, len(self.graph.layers)
        if first == layers:
            needs = [(MASTER, name, self.graph.tensors[name].whole) for name in self.graph.outputs]
            total = seconds + self._exchange(needs, owners, boxes)
            if total < self.best and self.fits(segments):
                self.best = total
            return
        for stop in range(first + 1, layers + 1):
            for number, (scheme, shares) in enumerate(self.candidates):
                footprints = self._footprints_of(first, stop, number)
                needs = [(d, t, r) for d, footprint in enumerate(footprints) for t, r in footprint.wanted.items()]
                cost = self._exchange(needs, owners, boxes) + self._compute(first, stop, number)
                after = {name: dict(held) for name, held in boxes.items()}
                for device, name, region in needs:
                    after[name][device] = (*after[name].get(device, ()), region)
                owned = owned_at_end(self.graph, first, stop, scheme, shares)
                for name in owned:
                    after[name] = {d: (fp.held[name],) for d, fp in enumerate(footprints) if name in fp.held}
                new_owners = {n: {d: r for d, r in enumerate(regions) if r is not None} for n, regions in owned.items()}
                longer = (*segments, Segment(first, stop, scheme, shares))
                self._explore(longer, {**owners, **new_owners}, after, seconds + cost)

    def _exchange(
        self,
        needs: Sequence[tuple[int, str, Region]],
        owners: Mapping[str, Mapping[int, Region]],
        boxes: Mapping[str, Boxes],
    ) -> float:
        nbytes = np.zeros((self.devices + 1,) * 2)
        for device, name, region in needs:
            for copy in copies_for(name, device, region, boxes[name].get(device, ()), owners[name]):
                nbytes[copy.source, device] += copy.region.size * self.graph.tensors[name].itemsize
        return float(self.model.exchange_seconds(nbytes))

    def _compute(self, first: int, stop: int, candidate: int) -> float:
        key = (first, stop, candidate)
        if key not in self._known:
            self._known[key] = max(
                float(np.sum(self.model.compute_seconds(d, [(work_of(self.graph, part),) for part in footprint.parts])))
                for d, footprint in enumerate(self._footprints_of(first, stop, candidate))
            )
        return self._known[key]

    def _footprints_of(self, first: int, stop: int, candidate: int) -> tuple[Footprint, ...]:
        key = (first, stop, candidate)
        if key not in self._footprints:
            self._footprints[key] = segment_footprints(self.graph, first, stop, *self.candidates[candidate])
        return self._footprints[key]


@st.composite
def graphs(draw: st.DrawFn, longest: int = 5) -> LayerGraph:
    """Chains, branches, residual connections, strides, operators without a rule, several inputs and outputs."""
    random = draw(st.randoms(use_true_random=False))
    writer = GraphWriter()
    size = random.randint(3, 8)
    images = [writer.input(1, random.randint(1, 4), size, size) for _ in range(random.choice((1, 1, 2)))]
    for _ in range(random.randint(2, longest)):
        image = random.choice(images[-2:])
        others = [name for name in images if writer.tensors[name].shape == writer.tensors[image].shape]
        step = random.choice(("conv", "conv", "pointwise", "depthwise", "stride", "relu", "add", "add", "mystery"))
        if step == "add":
            images.append(writer.add(image, random.choice(others)))
        elif step == "relu":
            images.append(writer.relu(image))
        elif step == "mystery":
            images.append(writer.unknown(image))
        else:
            kernel, stride = (1, 1) if step == "pointwise" else (3, 2 if step == "stride" else 1)
            images.append(writer.conv(image, random.randint(1, 4), kernel, stride, depthwise=step == "depthwise"))
    produced = [name for name in images if name not in writer.inputs]
    return writer.graph(*dict.fromkeys([produced[-1], *(name for name in produced if random.random() < 0.15)]))


@st.composite
def candidate_sets(draw: st.DrawFn, devices: int) -> list[Candidate]:
    """A few schemes with uneven shares, some devices alone, often all replicated."""
    random = draw(st.randoms(use_true_random=False))
    found: list[Candidate] = []
    for _ in range(random.randint(1, 3)):
        shares = tuple(random.choice((0.0, 0.5, 1.0, 1.0, 2.0)) for _ in range(devices))
        found.append((random.choice(SPLITTING), shares if any(shares) else (1.0,) * devices))
    if random.random() < 0.8:
        found.append((REPLICATED, (1.0,) * devices))
    alone = [(single(d), tuple(float(i == d) for i in range(devices))) for d in range(devices)]
    return list(dict.fromkeys([*found, *(choice for choice in alone if random.random() < 0.5)]))


@st.composite
def cost_models(draw: st.DrawFn, devices: int) -> RandomCostModel:
    """From free messages to dear ones, from free computing to dear one."""
    return RandomCostModel(
        devices,
        draw(st.integers(0, 2**16)),
        equal=draw(st.booleans()),
        message_seconds=draw(st.sampled_from((0.0, 0.1, 1.0, 10.0))),
        byte_seconds=draw(st.sampled_from((0.0, 1e-4, 1e-3, 1e-2))),
        flop_seconds=draw(st.sampled_from((0.0, 1e-5, 1e-4, 1e-3))),
    )


@settings(max_examples=3000 if LONG else 40, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_the_search_finds_what_trying_everything_finds(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    devices = data.draw(st.integers(2, 3))
    model = data.draw(cost_models(devices))
    table = cost_table(graph, devices, data.draw(candidate_sets(devices)), model)
    assume(_plans_in(table) <= _MOST_PLANS)
    result = search(table, most_transitions=10**9)
    found = evaluate(graph, cluster_of(*[1.0] * devices), result.segments, model).predicted_seconds
    best = BruteForce(graph, devices, table.candidates, model).seconds()
    tolerance = 1e-6 * best + 1e-6  # equal plans are told apart by a little per segment
    assert found == pytest.approx(result.seconds, abs=tolerance)
    assert found >= best - tolerance
    assert result.bound <= best + tolerance or not result.complete
    if result.exact:
        assert found <= best + tolerance


@settings(max_examples=1500 if LONG else 30, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_the_search_within_memory_finds_what_trying_everything_finds(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=4))
    devices = data.draw(st.integers(2, 3))
    model = data.draw(cost_models(devices))
    table = cost_table(graph, devices, data.draw(candidate_sets(devices)), model, every_segment=True)
    assume(_plans_in(table) <= _MOST_PLANS)
    whole = memory_needs(graph, [Segment(0, len(graph.layers), single(0), (1.0,))], 1)[0].total
    budgets = [data.draw(st.sampled_from((None, whole, whole * 3 // 4, whole // 2))) for _ in range(devices)]

    def fits(segments: Sequence[Segment]) -> bool:
        needs = memory_needs(graph, segments, devices)
        return all(budget is None or need.total <= budget for need, budget in zip(needs, budgets, strict=True))

    result = search_fitting(table, fits, math.inf, most_looks=10**9)
    best = BruteForce(graph, devices, table.candidates, model, fits).seconds()
    assert result.exact
    assert result.seconds == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert fits(result.segments)


@settings(max_examples=1500 if LONG else 30, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_closer_bounds_keep_the_best_plan(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    devices = data.draw(st.integers(2, 3))
    table = cost_table(graph, devices, data.draw(candidate_sets(devices)), data.draw(cost_models(devices)))
    costs = tuple(cut.compute_seconds.max(axis=1) if len(cut.stop) else np.zeros(0) for cut in table.cuts)
    free = lower_bounds(table, costs)
    best = Sweep(table, costs, free, Limits(transitions=10**9)).run()
    assert best is not None
    closer = LookAhead(table, costs, free, best[0] * data.draw(st.sampled_from((1.0, 1.5)))).raised(10**9)
    tolerance = 1e-9 * best[0] + 1e-12
    assert free.best() - tolerance <= closer.best() <= best[0] + tolerance
    again = Sweep(table, costs, closer, Limits(best[0] + tolerance, transitions=10**9)).run()
    assert again is not None
    assert again[0] == pytest.approx(best[0])


@settings(max_examples=1000 if LONG else 25, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_no_plan_costs_less_than_the_bound_though_growth_gave_up(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=4))
    devices = data.draw(st.integers(2, 3))
    model = data.draw(cost_models(devices))
    candidates = data.draw(candidate_sets(devices))
    growth = Growth(graph, devices, tuple(candidates), model)
    growth.longest = data.draw(st.integers(1, 3))
    grown = growth.grow_all()
    table = assemble(growth, grown, grown.rows, reliefs(growth, grown))
    assume(_plans_in(table) <= _MOST_PLANS)
    result = search(table, most_transitions=10**9)
    best = BruteForce(graph, devices, table.candidates, model).seconds()
    assert result.complete
    assert result.bound <= best * (1 + 1e-6) + 1e-6


def _plans_in(table: CostTable) -> int:
    kinds = len(table.candidates)
    return int(kinds * (1 + kinds) ** (len(table.cuts) - 2))


@settings(max_examples=300 if LONG else 30, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_a_plan_is_never_predicted_slower_than_one_device_or_any_other_plan_in_its_space(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=5))
    devices = data.draw(st.integers(1, 3))
    cluster = cluster_of(*data.draw(st.lists(st.sampled_from((0.1, 0.2, 1.0)), min_size=devices, max_size=devices)))
    model = data.draw(cost_models(devices))
    result = make_plan(graph, cluster, cost_model=model)
    assert result.plan.predicted_seconds <= result.single_device.predicted_seconds * (1 + 1e-9)
    assert result.plan == evaluate(graph, cluster, result.plan.segments, model)
    for scheme in ("InH", "OutC", "Replicated"):
        forced = make_plan(graph, cluster, scheme=scheme, cost_model=model).plan
        assert not result.exact or result.plan.predicted_seconds <= forced.predicted_seconds + 1e-6
    _assert_runs_every_layer(graph, result.plan.segments)


def _assert_runs_every_layer(graph: LayerGraph, segments: Sequence[Segment]) -> None:
    assert [segment.first for segment in segments] == [0, *(segment.stop for segment in segments[:-1])]
    assert segments[-1].stop == len(graph.layers)
    assert all(max(segment.shares) > 0 for segment in segments)


@settings(max_examples=200 if LONG else 30, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_a_plan_fits_the_budgets_or_the_numbers_say_why_not(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=5))
    devices = data.draw(st.integers(1, 3))
    whole = memory_needs(graph, [Segment(0, len(graph.layers), single(0), (1.0,))], 1)[0].total
    budgets = [data.draw(st.sampled_from((None, whole, whole * 2 // 3, whole // 2, 1))) for _ in range(devices)]
    cluster = cluster_of(*[1.0] * devices, memory=budgets)
    result = _plan_or_error(graph, cluster, data.draw(cost_models(devices)))
    if isinstance(result, FlexPieError):
        assert result.code is ErrorCode.OUT_OF_MEMORY
        assert "needs" in result.message
        assert all(budget is not None and budget < whole for budget in budgets)
        return
    for need, budget in zip(memory_needs(graph, result.plan.segments, devices), budgets, strict=True):
        assert budget is None or need.total <= budget


def _plan_or_error(graph: LayerGraph, cluster: Cluster, model: CostModel) -> PlanningResult | FlexPieError:
    try:
        return make_plan(graph, cluster, cost_model=model)
    except FlexPieError as error:
        return error


@settings(max_examples=300 if LONG else 40, suppress_health_check=SLOW_DATA)
@given(st.data())
def test_any_given_plan_can_be_evaluated(data: st.DataObject) -> None:
    graph = data.draw(graphs(longest=8))
    devices = data.draw(st.integers(1, 4))
    segments = data.draw(plans(graph, devices)).segments
    cluster = cluster_of(*[1.0] * devices)
    model = data.draw(cost_models(devices))
    plan = evaluate(graph, cluster, segments, model)
    parts = sum(cost.exchange_seconds + max(cost.compute_seconds) for cost in plan.costs) + plan.gather_seconds
    assert plan.predicted_seconds == pytest.approx(parts)
    assert len(plan.costs) == len(segments)
    for segment, cost in zip(segments, plan.costs, strict=True):
        idle = [device for device in range(devices) if segment.shares[device] == 0]
        assert all(cost.compute_seconds[device] == 0 for device in idle)
