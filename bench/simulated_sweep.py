"""Planning past this machine: simulated clusters of 2 to 64 unequal devices, from 5 Gbit/s to Wi-Fi.

python -m bench.simulated_sweep [--model MODEL] [--devices N]... [--csv FILE] [--plot FILE]

Devices are of three kinds in turn (speeds 0.3, 0.2 and 0.1 of a current desktop core), on a ring, a star and a mesh.
For each cluster: the latency of one request beside that of the best device alone, requests per second with several
in flight, and how long planning took.
"""

from __future__ import annotations

import csv
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import flexpie_models
from flexpie import pipeline
from flexpie.core.cluster import Cluster, Device, Link, Topology
from flexpie.core.graph import LayerGraph
from flexpie.planner.physics import PhysicsCostModel
from flexpie.planner.planning import make_plan
from flexpie.planner.simulation import simulate

SPEEDS = (0.3, 0.2, 0.1)
DEVICES = (2, 4, 8, 16, 32, 64)
LINKS: Mapping[str, Link] = {
    "5 Gbit/s": Link(625e6, 50e-6),
    "1 Gbit/s": Link(125e6, 100e-6),
    "100 Mbit/s": Link(12.5e6, 200e-6),
    "Wi-Fi, 50 Mbit/s": Link(6.25e6, 2e-3),
}
REQUESTS = 50
IN_FLIGHT = 4
JITTER = 0.1


@dataclass(frozen=True)
class Row:
    """One simulated cluster."""

    devices: int
    topology: str
    link: str
    used: int
    """Devices that the plan gives a share."""
    segments: int
    alone_ms: float
    latency_ms: float
    speed_up: float
    requests_per_second: float
    p99_ms: float
    """With several requests in flight, and jitter."""
    planning_seconds: float


@click.command()
@click.option(
    "--model", default="resnet18", show_default=True, type=click.Choice(flexpie_models.NAMES), metavar="MODEL"
)
@click.option("--devices", "counts", multiple=True, type=click.IntRange(2, 64), help="Default: 2, 4, 8, … 64.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here, too.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw speed-ups here.")
def main(model: str, counts: tuple[int, ...], csv_path: Path | None, plot_path: Path | None) -> None:
    """Plan MODEL for clusters that do not exist, and simulate requests."""
    graph = _graph(model)
    combinations = list(itertools.product(Topology, LINKS, counts or DEVICES))
    rows = []
    for topology, link, count in combinations:
        rows.append(_row(graph, count, topology, link))
        click.echo(f"\r{len(rows)} of {len(combinations)} clusters", err=True, nl=len(rows) == len(combinations))
    _print(model, rows)
    if csv_path is not None:
        _write(csv_path, rows)
    if plot_path is not None:
        _plot(plot_path, model, rows)


def _graph(model: str) -> LayerGraph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}.onnx"
        path.write_bytes(flexpie_models.build(model).SerializeToString())
        return pipeline.import_file(path, {"image": (1, 1, 8, 8)} if model == "digits" else None).graph


def _row(graph: LayerGraph, count: int, topology: Topology, link: str) -> Row:
    devices = tuple(
        Device(f"device-{at}", f"device-{at}:1", speed)
        for at, speed in zip(range(count), itertools.cycle(SPEEDS), strict=False)
    )
    cluster = Cluster(devices, LINKS[link], topology)
    model = PhysicsCostModel(cluster)
    start = time.process_time()
    result = make_plan(graph, cluster, cost_model=model)
    planning = time.process_time() - start
    segments = result.plan.segments
    one = simulate(graph, cluster, segments, model)
    alone = simulate(graph, cluster, result.single_device.segments, model)
    many = simulate(graph, cluster, segments, model, requests=REQUESTS, in_flight=IN_FLIGHT, jitter=JITTER)
    return Row(
        devices=count,
        topology=topology.value,
        link=link,
        used=len(result.plan.participants),
        segments=len(segments),
        alone_ms=alone.latency * 1e3,
        latency_ms=one.latency * 1e3,
        speed_up=alone.latency / one.latency,
        requests_per_second=many.throughput,
        p99_ms=many.percentile(99) * 1e3,
        planning_seconds=planning,
    )


def _print(model: str, rows: Sequence[Row]) -> None:
    table = Table(title=f"{model}, simulated; {IN_FLIGHT} requests in flight for requests/s and p99")
    for column in asdict(rows[0]):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(row).values()))
    Console(width=150).print(table)


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))


def _plot(path: Path, model: str, rows: Sequence[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, len(Topology), sharey=True)
    for plot, topology in zip(axes, Topology, strict=True):
        for link in LINKS:
            points = [(row.devices, row.speed_up) for row in rows if (row.topology, row.link) == (topology.value, link)]
            plot.plot(*zip(*points, strict=True), marker="o", label=link)
        plot.set(title=topology.value, xlabel="devices", xscale="log", xticks=DEVICES, xticklabels=DEVICES)
        plot.grid(alpha=0.3)
    axes[0].set_ylabel(f"{model}: speed-up over the best device")
    axes[-1].legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
