"""The results of a benchmark as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from flexpie.benchmark.cells import ALONE, OURS, OURS_FLOAT16, bandwidth_label

if TYPE_CHECKING:
    from flexpie.benchmark.cells import Ground
    from flexpie.benchmark.statistics import Estimate
    from flexpie.benchmark.summary import CellResult


def table_of(results: Sequence[CellResult]) -> Table:
    """For each cell our time beside that of onnxruntime alone and of the best other strategy."""
    table = Table("model", "testbed", ALONE, OURS, "predicted", "best other", "speed-up", "against it", "",
                  caption="Medians in ms. Speed-up: over onnxruntime alone. Against it: over the best other strategy. "
                  "95 % confidence. `flexpie bench report` shows all strategies.")  # fmt: skip
    for result in results:
        cell, best, predicted = result.cell, result.best_baseline, result.planned.get(OURS)
        against = None if best is None else result.times_faster(OURS, best)
        table.add_row(
            cell.model + (f" ×{cell.in_flight}" if cell.in_flight > 1 else ""),
            _ground(cell.ground),
            _milliseconds(result.latency(ALONE)),
            _milliseconds(result.latency(OURS)),
            "" if predicted is None or cell.in_flight > 1 else f"{predicted.predicted_seconds * 1e3:.1f}",
            "" if best is None else f"{_milliseconds(result.latency(best))} {best}",
            _interval(result.speed_up),
            _interval(against),
            result.mark,
        )
    return table


def headline(result: CellResult) -> str:
    """A cell in one line."""
    ours, speed_up, best = result.latency(OURS), result.speed_up, result.best_baseline
    parts = [str(result.cell)]
    parts += [f"{OURS} {_milliseconds(ours)} ms"] if ours else []
    parts += [f"{_interval(speed_up)} times as fast as {ALONE}"] if speed_up else []
    if best is not None and (against := result.times_faster(OURS, best)) is not None:
        parts.append(f"{_interval(against)} times as fast as {best}")
    if (against := result.times_faster(OURS_FLOAT16, OURS)) is not None:
        parts.append(f"{OURS_FLOAT16} {_interval(against)} times as fast as {OURS}")
    return ": ".join([parts[0], ", ".join([*parts[1:], *([result.mark] if result.mark else [])])])


def _ground(ground: Ground) -> str:
    cpu = f"{len(ground.cpu)} × {ground.cpu[0]:.0%}" if ground.equal else "+".join(f"{s:.0%}" for s in ground.cpu)
    return f"{cpu}, {bandwidth_label(ground.bandwidth_bits_per_second)} {ground.topology.value}"


def _milliseconds(found: Estimate | None) -> str:
    return "" if found is None else f"{found.value * 1e3:.1f}"


def _interval(found: Estimate | None) -> str:
    if found is None:
        return ""
    return f"{found.value:.2f}" + ("" if found.low == found.high else f" [{found.low:.2f}–{found.high:.2f}]")
