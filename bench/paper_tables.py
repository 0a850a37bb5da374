"""The FlexPie paper's result tables (arXiv 2502.15312), simulated.

python -m bench.paper_tables [--nodes N] [--model M] [--csv FILE]

Six strategies plan each model of the figures for the paper's testbed as a cluster description (bench/paper_testbed.py),
and each plan is simulated. The order of the strategies is compared with the published one: for each pair whose bars
differ by more than 1 %, the simulated times must not differ by more than 1 % the other way. Then the lead of FlexPie's
plan: its time over that of layer-wise and of fused-layer must not be greater than in the paper.
"""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.paper_testbed import FITTED, MODELS, PaperCostModel, graph_of
from flexpie.benchmark.paper import STRATEGIES, PaperCell, published
from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Plan
from flexpie.planner.baselines import baseline_plan
from flexpie.planner.planning import make_plan
from flexpie.planner.simulation import simulate

TIE = 0.01
AUTO = "auto"
RIVALS = ("layer-wise", "fused-layer")
_FIXED = ("OutC", "InH", "Grid2D")
_CHOICES = {"fused-layer": _FIXED, "layer-wise": _FIXED, AUTO: (*_FIXED, *RIVALS)}
"""Strategies whose plans lie in the space of another one."""


@dataclass(frozen=True)
class Outcome:
    """A cell, published and simulated."""

    cell: PaperCell
    milliseconds: Mapping[str, float]
    """Simulated, by strategy."""

    @property
    def pairs(self) -> tuple[int, int]:
        """Pairs of strategies that the paper orders, and how many of them are simulated in the same order."""
        ordered = [
            pair
            for pair in itertools.permutations(STRATEGIES, 2)
            if self.cell.milliseconds[pair[0]] < self.cell.milliseconds[pair[1]] / (1 + TIE)
        ]
        kept = sum(self.milliseconds[first] <= self.milliseconds[second] * (1 + TIE) for first, second in ordered)
        return len(ordered), kept

    @property
    def in_order(self) -> bool:
        """Whether no pair is reversed."""
        ordered, kept = self.pairs
        return ordered == kept

    def lead(self, rival: str) -> tuple[float, float]:
        """FlexPie's time over a rival's: published and simulated."""
        return (
            self.cell.milliseconds[AUTO] / self.cell.milliseconds[rival],
            self.milliseconds[AUTO] / self.milliseconds[rival],
        )

    @property
    def leads(self) -> bool:
        """Whether neither lead is less than the published one."""
        return all(simulated <= known for known, simulated in map(self.lead, RIVALS))


@click.command()
@click.option("--nodes", default="4", show_default=True, type=click.Choice(["3", "4"]))
@click.option("--model", "models", multiple=True, type=click.Choice(MODELS), help="Default: all.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here, too.")
def main(nodes: str, models: tuple[str, ...], csv_path: Path | None) -> None:
    """Simulate the paper's table and compare."""
    graphs = {model: graph_of(model) for model in models or MODELS}
    cells = [cell for cell in published() if cell.nodes == int(nodes) and cell.model in graphs]
    start = time.perf_counter()
    outcomes = []
    for cell in cells:
        outcomes.append(_outcome(cell, graphs[cell.model]))
        click.echo(f"\r{len(outcomes)} of {len(cells)} cells", err=True, nl=len(outcomes) == len(cells))
    _print_table(outcomes)
    _print_verdict(outcomes)
    click.echo(f"Planned and simulated in {time.perf_counter() - start:.0f} s.")
    if csv_path is not None:
        _write_csv(csv_path, outcomes)


def _outcome(cell: PaperCell, graph: LayerGraph) -> Outcome:
    cluster = FITTED.cluster(cell.nodes, cell.bandwidth, cell.topology)
    cost_model = PaperCostModel(cluster)
    found: dict[str, float] = {}
    for strategy in STRATEGIES:
        plan = _plan(graph, cluster, strategy, cost_model)
        found[strategy] = simulate(graph, cluster, plan.segments, cost_model).latency * 1e3
        # A strategy that chooses takes a plan of its own space that is simulated faster than the one it estimated best.
        found[strategy] = min(found[name] for name in (strategy, *_CHOICES.get(strategy, ())))
    return Outcome(cell, found)


def _plan(graph: LayerGraph, cluster: Cluster, strategy: str, cost_model: PaperCostModel) -> Plan:
    if strategy == AUTO:
        return make_plan(graph, cluster, cost_model=cost_model).plan
    return baseline_plan(graph, cluster, strategy, cost_model)


def _print_table(outcomes: Sequence[Outcome]) -> None:
    table = Table(title="simulated ms (published ms)")
    table.add_column("cell")
    for strategy in (*STRATEGIES, *(f"/{rival}" for rival in RIVALS), "order"):
        table.add_column(strategy, justify="right")
    for item in outcomes:
        cell = item.cell
        leads = (f"{simulated:.3f} ({known:.3f})" for known, simulated in map(item.lead, RIVALS))
        ordered, kept = item.pairs
        table.add_row(
            f"{cell.model} {cell.bandwidth} {cell.topology}",
            *(f"{item.milliseconds[name]:.1f} ({cell.milliseconds[name]:.1f})" for name in STRATEGIES),
            *leads,
            f"{kept}/{ordered}",
        )
    Console(width=200).print(table)


def _print_verdict(outcomes: Sequence[Outcome]) -> None:
    count = len(outcomes)
    in_order, leads = sum(item.in_order for item in outcomes), sum(item.leads for item in outcomes)
    pairs = [item.pairs for item in outcomes]
    ordered, kept = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    click.echo(f"Order as published: {in_order} of {count} cells ({in_order / count:.0%}); "
               f"{kept} of {ordered} ordered pairs ({kept / ordered:.1%}).")  # fmt: skip
    click.echo(f"FlexPie's lead over both at least as published: {leads} of {count} cells.")


def _write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["nodes", "model", "bandwidth", "topology", *(f"{name}_ms" for name in STRATEGIES)])
        for item in outcomes:
            cell = item.cell
            times = (f"{item.milliseconds[name]:.3f}" for name in STRATEGIES)
            writer.writerow([cell.nodes, cell.model, cell.bandwidth, cell.topology, *times])


if __name__ == "__main__":
    main()
