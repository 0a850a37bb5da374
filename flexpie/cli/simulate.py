"""`flexpie simulate`: what a cluster would answer, and how fast, without touching it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import (
    boundary_option,
    counted,
    json_option,
    print_json,
    reporting,
    scheme_option,
    shape_option,
)
from flexpie.core.boundary import Boundary
from flexpie.core.strategy import AUTO
from flexpie.wire.plan_files import read_plan_text

if TYPE_CHECKING:
    from flexpie.core.cluster import Cluster
    from flexpie.core.plan import Plan
    from flexpie.planner.simulation import Simulation

_PERCENTILES = (50, 90, 99, 100)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--cluster", "cluster_path", required=True, type=click.Path(path_type=Path), help="Cluster file.")
@scheme_option
@boundary_option
@shape_option
@click.option("--plan", "plan_path", type=click.Path(path_type=Path, dir_okay=False),
              help="Simulate the plan of this file instead of searching for one.")  # fmt: skip
@click.option("--requests", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="How many.")
@click.option("--in-flight", default=1, show_default=True, type=click.IntRange(1), help="Requests under way at once.")
@click.option("--jitter", default=0.0, show_default=True, type=click.FloatRange(0, 2), metavar="SIGMA",
              help="How much times scatter: standard deviation of their logarithm, such as 0.1.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the jitter.")
@click.option("--trace", "trace_path", type=click.Path(path_type=Path, dir_okay=False),
              help="Write a timeline for chrome://tracing or ui.perfetto.dev.")  # fmt: skip
@json_option
@reporting
def simulate(
    model: Path,
    cluster_path: Path,
    scheme: str,
    boundary: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    plan_path: Path | None,
    requests: int,
    in_flight: int,
    jitter: float,
    seed: int,
    trace_path: Path | None,
    as_json: bool,
) -> None:
    """Simulate requests to MODEL on a cluster: latency, throughput, and what each device does meanwhile.

    Works offline: no device is asked, and none has to exist.
    """
    from flexpie import pipeline
    from flexpie.cli.trace_events import trace_events
    from flexpie.master.cluster_file import read_cluster_file

    if plan_path is not None and scheme != AUTO:
        raise click.UsageError("give either --scheme or --plan")
    if plan_path is not None and boundary is not None:
        raise click.UsageError("give either --boundary or --plan, whose file has a boundary")
    given = None if plan_path is None else read_plan_text(plan_path)
    cluster = read_cluster_file(cluster_path).cluster
    imported = pipeline.import_file(model, dict(shapes))
    if given is None:
        wanted = Boundary(boundary or Boundary.FLOAT32.value)
        plan = pipeline.plan_model(imported, cluster, scheme, boundary=wanted).plan
    else:
        plan = pipeline.read_plan(given, imported, cluster)
    result = pipeline.simulate_plan(
        imported, cluster, plan, requests=requests, in_flight=in_flight, jitter=jitter, seed=seed
    )
    if trace_path is not None:
        trace_path.write_text(json.dumps(trace_events(result, cluster)), encoding="utf-8")
    if as_json:
        print_json(_summary(imported.graph.name, cluster, plan, result))
    else:
        _print_result(imported.graph.name, cluster, plan, result)
        if trace_path is not None:
            click.echo(f"Timeline: {trace_path}")


def _summary(name: str, cluster: Cluster, plan: Plan, result: Simulation) -> dict[str, Any]:
    """One JSON object; times in seconds."""
    return {
        "model": name,
        "requests": len(result.latencies),
        "segments": len(plan.segments),
        "latency_seconds": {f"p{percent}": result.percentile(percent) for percent in _PERCENTILES},
        "mean_latency_seconds": result.latency,
        "requests_per_second": result.throughput,
        "devices": [
            {
                "name": device.name,
                "computing_seconds": time.computing,
                "sending_seconds": time.sending,
                "waiting_seconds": time.waiting,
                "utilisation": result.utilisation(index),
            }
            for index, device in enumerate(cluster.devices)
            for time in (result.per_device(index),)
        ],
    }


def _print_result(name: str, cluster: Cluster, plan: Plan, result: Simulation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{name} in {counted(len(plan.segments), 'segment')} on {counted(len(cluster.devices), 'device')}: "
        f"{counted(len(result.latencies), 'request')}"
    )
    table.add_column("device")
    for column in ("computing", "messages", "waiting", "utilisation"):
        table.add_column(column, justify="right")
    for index, device in enumerate(cluster.devices):
        time = result.per_device(index)
        seconds = (time.computing, time.sending, time.waiting)
        table.add_row(device.name, *(f"{part * 1e3:.2f} ms" for part in seconds), f"{result.utilisation(index):.0%}")
    Console(width=None if Console().is_terminal else 120).print(table)
    percentiles = " · ".join(f"p{percent} {result.percentile(percent) * 1e3:.1f} ms" for percent in _PERCENTILES)
    click.echo(f"Latency: mean {result.latency * 1e3:.1f} ms · {percentiles}")
    click.echo(f"Throughput: {result.throughput:.1f} requests/s")
