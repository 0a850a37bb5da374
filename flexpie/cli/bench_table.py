"""The results of a benchmark as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

from flexpie.benchmark.cells import ALONE, OURS, bandwidth_label
from flexpie.benchmark.statistics import geometric_mean
from flexpie.benchmark.summary import errors
from flexpie.cli.console import counted
from flexpie.core.strategy import BASELINES

if TYPE_CHECKING:
    from flexpie.benchmark.statistics import Estimate
    from flexpie.benchmark.summary import CellResult


def table_of(results: Sequence[CellResult]) -> Table:
    """Median milliseconds of each strategy in each cell, and how ours compares."""
    names = [name for name in (OURS, ALONE, *BASELINES) if any(name in result.strategies for result in results)]
    table = Table("model", "devices", "link", *names, "predicted", "speed-up", "÷ best", "",
                  caption="Medians in ms; speed-up of auto over onnxruntime; ÷ best: time of auto over that of the "
                  "best other strategy; 95 % confidence.")  # fmt: skip
    for result in results:
        cell, ground = result.cell, result.cell.ground
        cpu = " ".join(f"{100 * share:g}" for share in ([ground.cpu[0]] if ground.equal else ground.cpu))
        predicted = result.planned.get(OURS)
        table.add_row(
            cell.model + (f" ×{cell.in_flight}" if cell.in_flight > 1 else ""),
            f"{len(ground.cpu)} × {cpu}%" if ground.equal else f"{cpu}%",
            f"{bandwidth_label(ground.bandwidth_bits_per_second)} {ground.topology.value}",
            *("" if (found := result.latency(name)) is None else f"{found.value * 1e3:.1f}" for name in names),
            "" if predicted is None or cell.in_flight > 1 else f"{predicted.predicted_seconds * 1e3:.1f}",
            _interval(result.speed_up),
            _interval(result.regret),
            result.mark,
        )
    return table


def verdict(results: Sequence[CellResult]) -> list[str]:
    """Sentences over all measured cells: how well latencies were predicted, and how ours compares."""
    measured = [result for result in results if result.measured]
    lines = []
    for title, chosen in (("our plans", [OURS]), ("all plans", [OURS, *BASELINES])):
        if values := errors(measured, chosen):
            lines.append(f"Error of the prediction, {title}: median {median(values):.1%}, worst {max(values):.1%} of "
                         f"{len(values)}.")  # fmt: skip
    regrets = [found.value for result in measured if (found := result.regret) is not None]
    if regrets:
        lines.append(f"Ours against the best other strategy: mean {1 / geometric_mean(regrets):.3f}×, worst "
                     f"{1 / max(regrets):.3f}×, of {counted(len(regrets), 'cell')}.")  # fmt: skip
    if measured:
        largest = max(result.difference for result in measured)
        lines.append(f"Largest difference from unsplit onnxruntime: {largest:.1e} of the largest output.")
    return lines


def _interval(found: Estimate | None) -> str:
    if found is None:
        return ""
    return f"{found.value:.2f}" + ("" if found.low == found.high else f" [{found.low:.2f}–{found.high:.2f}]")
