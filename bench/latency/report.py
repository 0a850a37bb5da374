"""Tables of what was measured: speed-ups, prediction errors, regret."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.latency.records import ALONE, FIXED, OURS, Cell, Measurement

ByStrategy = Mapping[str, Measurement]


def by_cell(found: Iterable[Measurement]) -> dict[Cell, dict[str, Measurement]]:
    """The measurements with times, by cell and strategy; the last one of each counts."""
    cells: dict[Cell, dict[str, Measurement]] = {}
    for item in found:
        if item.seconds:
            cells.setdefault(item.cell, {})[item.strategy] = item
    return cells


def errors(cells: Mapping[Cell, ByStrategy], strategies: Sequence[str]) -> list[float]:
    """Relative differences of predicted from measured latency, of every predicted measurement."""
    return [
        abs(item.predicted_seconds / item.median - 1)
        for measured in cells.values()
        for name, item in measured.items()
        if name in strategies and item.predicted_seconds > 0
    ]


def regret(measured: ByStrategy) -> float | None:
    """Time of our plan relative to the best of the baselines; None where one of both is missing."""
    others = [measured[name].median for name in FIXED if name in measured]
    return measured[OURS].median / min(others) if OURS in measured and others else None


def show(found: Sequence[Measurement], console: Console) -> None:
    """Print one row per cell, and the figures over all of them."""
    cells = by_cell(found)
    names = [name for name in (OURS, *FIXED, ALONE) if any(name in measured for measured in cells.values())]
    table = Table("model", "devices", "Mbit/s", *names, "predicted", "error", "regret", "speed-up")
    for cell, measured in sorted(cells.items(), key=lambda item: (item[0].model, item[0].devices, -item[0].megabits)):
        ours, alone, lost = measured.get(OURS), measured.get(ALONE), regret(measured)
        table.add_row(
            cell.model,
            str(cell.devices),
            f"{cell.megabits:g}",
            *(f"{measured[name].median * 1e3:.1f}" if name in measured else "" for name in names),
            f"{ours.predicted_seconds * 1e3:.1f}" if ours else "",
            f"{ours.predicted_seconds / ours.median - 1:+.1%}" if ours else "",
            "" if lost is None else f"{lost:.3f}",
            f"{alone.median / ours.median:.2f}" if ours and alone else "",
        )
    console.print(table)
    for title, chosen in (("our plans", (OURS,)), ("all plans", (OURS, *FIXED))):
        if values := errors(cells, chosen):
            console.print(
                f"Error of the prediction, {title}: median {statistics.median(values):.1%}, worst {max(values):.1%} "
                f"of {len(values)}."
            )
    if losses := [lost for measured in cells.values() if (lost := regret(measured)) is not None]:
        console.print(f"Regret: worst {max(losses):.3f}, mean {statistics.fmean(losses):.3f} of {len(losses)} cells.")
    wrong = max((item.difference for item in found), default=0.0)
    console.print(f"Largest difference from unsplit onnxruntime, relative to the largest output: {wrong:.1e}.")


def plot(found: Sequence[Measurement], path: Path) -> None:
    """Predicted against measured latency, one point a plan, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = by_cell(found)
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    for name, marker in ((OURS, "o"), *((name, "x") for name in FIXED)):
        points = [measured[name] for measured in cells.values() if name in measured]
        axes.scatter([p.median * 1e3 for p in points], [p.predicted_seconds * 1e3 for p in points], marker=marker,
                     s=28 if name == OURS else 16, label="our plan" if name == OURS else name)  # fmt: skip
    low, high = axes.get_xlim()
    low = max(low, 1.0)
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="measured latency, ms", ylabel="predicted latency, ms")
    axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)
