"""What a file of results says."""

from __future__ import annotations

import dataclasses

import pytest

from flexpie.benchmark.cells import ALONE, OURS, Cell, Ground
from flexpie.benchmark.progress import Ledger
from flexpie.benchmark.records import Failed, Simulated
from flexpie.benchmark.summary import errors, summarise
from tests.unit.benchmark.examples import CELL, launch, small_benchmark


def test_figures_of_a_cell() -> None:
    (result,) = summarise(small_benchmark())
    ours, speed_up, regret = result.latency(OURS), result.speed_up, result.regret
    assert ours is not None
    assert speed_up is not None
    assert regret is not None
    assert [ours.low, ours.value, ours.high] == pytest.approx([0.050, 0.051, 0.052])
    assert speed_up.value == pytest.approx(2.0)
    assert result.best_baseline == "InH"
    assert regret.value == pytest.approx(51 / 81)
    assert result.percentile(OURS, 100) == pytest.approx(0.052)
    assert result.throughput(OURS) == pytest.approx((3 / 0.150 + 3 / 0.156) / 2)
    assert (result.measured, result.counts, result.mark) == (True, True, "")
    assert errors([result], [OURS]) == [pytest.approx(1 - 48 / 51)]
    assert result.strategies == [OURS, ALONE, "InH"]


def test_a_wrong_answer_and_noise_are_marked_and_do_not_count() -> None:
    (wrong,) = summarise([*small_benchmark(), launch("InH", 3, 80, equal=False)])
    assert (wrong.counts, wrong.mark) == (False, "wrong answer")
    (noisy,) = summarise([launch(OURS, 1, 50, noisy=True)])
    assert (noisy.counts, noisy.mark) == (False, "noisy")


def test_launches_on_a_quiet_machine_replace_noisy_ones() -> None:
    noisy = [launch(OURS, number, 500, noisy=True) for number in (1, 2)]
    for records in ([*noisy, *small_benchmark()], [*small_benchmark(), *noisy]):
        (result,) = summarise(records)
        assert result.counts
        assert len(result.launches[OURS]) == 2


def test_with_several_in_flight_requests_per_second_are_compared() -> None:
    busy = Cell("resnet18", CELL.ground, in_flight=4)
    slow = dataclasses.replace(launch(ALONE, 1, 100, 100, cell=busy), wall_seconds=0.2)
    fast = dataclasses.replace(launch(OURS, 1, 160, 160, cell=busy), wall_seconds=0.08)
    other = dataclasses.replace(launch("pipeline", 1, 140, 140, cell=busy), wall_seconds=0.1)
    (result,) = summarise([slow, fast, other])
    assert result.throughput(OURS) == pytest.approx(25)
    assert result.speed_up is not None
    assert result.speed_up.value == pytest.approx(2.5)
    assert result.best_baseline == "pipeline"
    assert result.regret is not None
    assert result.regret.value == pytest.approx(0.8)


def test_simulated_cells_are_marked_and_have_figures() -> None:
    cell = Cell("resnet18", Ground((0.2,) * 8, 1e9))
    records = [
        Simulated(cell, name, seconds, 1 / seconds, "8 devices need more") for name, seconds in
        ((OURS, 0.04), (ALONE, 0.1), ("OutC", 0.2))
    ]  # fmt: skip
    first, simulated = summarise([*records, *small_benchmark()])
    assert first.cell == CELL
    assert (simulated.mark, simulated.counts) == ("simulated", False)
    assert simulated.speed_up is not None
    assert simulated.speed_up.value == pytest.approx(2.5)
    assert errors([simulated], [OURS]) == []


def test_the_ledger_knows_what_is_left() -> None:
    ledger = Ledger([OURS, ALONE, "InH", "pipeline"], launches=3)
    ledger.note(small_benchmark())
    ledger.note([Failed(CELL, "pipeline", "no", "now"), Failed(CELL, "InH", "the master is gone", "now", final=False)])
    assert ledger.possible(CELL) == [OURS, ALONE, "InH"]
    assert sorted(ledger.left(CELL)) == [(3, "InH"), (3, OURS), (3, ALONE)]
    ledger.note([launch(OURS, 3, 50, noisy=True)])
    assert (3, OURS) in ledger.left(CELL)
    other = Ledger([OURS], launches=1, noisy_too=True)
    other.note([launch(OURS, 1, 50, noisy=True)])
    assert other.left(CELL) == []
