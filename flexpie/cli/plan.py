"""`flexpie plan`: what a cluster would do with a model, without touching it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import (
    counted,
    json_option,
    print_json,
    profile_option,
    profiles_of,
    reporting,
    scheme_option,
    shape_option,
)
from flexpie.core.work import work_shares

if TYPE_CHECKING:
    from flexpie.core.cluster import Cluster
    from flexpie.core.graph import LayerGraph
    from flexpie.planner.planning import PlanningResult


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--cluster", "cluster_path", required=True, type=click.Path(path_type=Path), help="Cluster file.")
@scheme_option
@shape_option
@profile_option
@json_option
@reporting
def plan(
    model: Path,
    cluster_path: Path,
    scheme: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    profiles: tuple[dict[str, tuple[int, ...]], ...],
    as_json: bool,
) -> None:
    """Plan MODEL for a cluster and tell what to expect. Works offline: no device is asked.

    Of several profiles each is planned as if it were alone on the devices.
    """
    from flexpie import pipeline
    from flexpie.master.cluster_file import read_cluster_file

    cluster = read_cluster_file(cluster_path).cluster
    summaries = []
    for given in profiles_of(shapes, profiles):
        imported = pipeline.import_file(model, given)
        start = time.perf_counter()
        result = pipeline.plan_model(imported, cluster, scheme)
        search_seconds = time.perf_counter() - start
        if as_json:
            summaries.append(plan_summary(imported.graph, cluster, result, search_seconds))
        else:
            _print_plan(imported.graph, cluster, result, search_seconds)
    if len(summaries) == 1:
        print_json(summaries[0])
    elif as_json:
        print_json({"model": summaries[0]["model"], "profiles": summaries})


def plan_summary(graph: LayerGraph, cluster: Cluster, result: PlanningResult, search_seconds: float) -> dict[str, Any]:
    """The plan as one JSON object; times in seconds."""
    plan = result.plan
    work = work_shares(graph, plan)
    return {
        "model": graph.name,
        "inputs": {name: list(graph.tensors[name].shape) for name in graph.inputs},
        "devices": [cluster.devices[index].name for index in plan.participants],
        "predicted_seconds": plan.predicted_seconds,
        "requests_per_second": result.occupation.requests_per_second,
        "busiest": result.occupation.busiest(plan.devices),
        "single_device_seconds": result.single_device.predicted_seconds,
        "search_seconds": search_seconds,
        "gather_seconds": plan.gather_seconds,
        "split_share": work.split,
        "redundant_share": work.redundant,
        "reason": result.reason,
        "segments": [
            {
                "layers": [layer.name for layer in graph.layers[segment.first : segment.stop]],
                "scheme": str(segment.scheme),
                "shares": list(segment.shares),
                "compute_seconds": max(cost.compute_seconds, default=0.0),
                "exchange_seconds": cost.exchange_seconds,
                "exchange_bytes": cost.exchange_bytes,
            }
            for segment, cost in zip(plan.segments, plan.costs, strict=True)
        ],
    }


def _print_plan(graph: LayerGraph, cluster: Cluster, result: PlanningResult, search_seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    plan = result.plan
    inputs = ", ".join(f"{name} {list(graph.tensors[name].shape)}" for name in graph.inputs)
    table = Table(
        title=f"{graph.name}, {inputs}: {counted(len(graph.layers), 'layer')} in "
        f"{counted(len(plan.segments), 'segment')}"
    )
    for column, justify in (("layers", "right"), ("first … last", "left"), ("scheme", "left"), ("devices", "left"),
                            ("sent before", "right"), ("exchange", "right"), ("compute", "right")):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for segment, cost in zip(plan.segments, plan.costs, strict=True):
        layers = graph.layers[segment.first : segment.stop]
        table.add_row(
            str(len(layers)),
            layers[0].name if len(layers) == 1 else f"{layers[0].name} … {layers[-1].name}",
            segment.scheme.kind.value,
            _shares(cluster, segment.scheme.device, segment.shares),
            f"{cost.exchange_bytes / 1e3:,.1f} kB",
            f"{cost.exchange_seconds * 1e3:.2f} ms",
            f"{max(cost.compute_seconds, default=0.0) * 1e3:.2f} ms",
        )
    table.add_section()
    gathered = sum(graph.tensors[name].nbytes for name in graph.outputs)
    table.add_row(
        "", "outputs", "", "to the master", f"{gathered / 1e3:,.1f} kB", f"{plan.gather_seconds * 1e3:.2f} ms"
    )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    click.echo(
        f"Predicted: {plan.predicted_seconds * 1e3:.1f} ms; the best single device alone: "
        f"{result.single_device.predicted_seconds * 1e3:.1f} ms. Planned in {search_seconds:.2f} s.",
    )
    click.echo(
        f"With many requests in flight: {result.occupation.requests_per_second:.3g} requests/s, limited by "
        f"{result.occupation.busiest(plan.devices)}.",
    )
    if len(plan.participants) > 1:
        work = work_shares(graph, plan)
        click.echo(
            f"{work.split:.1%} of the multiply-adds are divided over devices; halos that several devices compute add "
            f"{work.redundant:.1%}.",
        )
    click.echo(result.reason)


def _shares(cluster: Cluster, only: int | None, shares: tuple[float, ...]) -> str:
    if only is not None:
        return cluster.devices[only].name
    total = sum(shares)
    return " ".join(
        f"{device.name} {share / total:.0%}" for device, share in zip(cluster.devices, shares, strict=True) if share
    )
