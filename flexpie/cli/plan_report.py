"""A plan in words, tables and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from flexpie.cli.console import counted
from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.graph import LayerGraph
from flexpie.core.plan import Segment
from flexpie.core.turns import plan_of_lone_request, turns
from flexpie.core.work import WorkShares, work_shares
from flexpie.planner.comparison import Comparison, Rival
from flexpie.planner.planning import PlanningResult


@dataclass(frozen=True)
class Report:
    """A plan and all that is told about it."""

    graph: LayerGraph
    cluster: Cluster
    result: PlanningResult
    search_seconds: float
    comparison: Comparison | None
    """None where nobody wants to know."""

    @cached_property
    def work(self) -> WorkShares:
        """How much of the work is divided."""
        return work_shares(self.graph, self.result.plan)

    def shares(self, segment: Segment) -> str:
        """What each device has of a segment, as text."""
        devices = self.cluster.devices
        if segment.scheme.device is not None:
            return devices[segment.scheme.device].name
        total = sum(segment.shares)
        return " ".join(
            f"{device.name} {share / total:.0%}" for device, share in zip(devices, segment.shares, strict=True) if share
        )


def plan_summary(report: Report) -> dict[str, Any]:
    """The plan as one JSON object; times in seconds."""
    graph, result = report.graph, report.result
    plan = result.plan
    return {
        "model": graph.name,
        "signature": graph.signature,
        "inputs": {name: list(graph.tensors[name].shape) for name in graph.inputs},
        "devices": [plan.devices[index] for index in plan.participants],
        "predicted_seconds": result.latency_seconds,
        "requests_per_second": result.occupation.requests_per_second,
        "busiest": result.occupation.busiest(plan.devices),
        "single_device_seconds": result.single_device_seconds,
        "single_device_fits": result.single_device_fits,
        "objective": result.objective.value,
        "boundary": plan.boundary.value,
        "gap": result.gap,
        "exact": result.exact,
        "search_seconds": report.search_seconds,
        "gather_seconds": plan.gather_seconds,
        "split_share": report.work.split,
        "redundant_share": report.work.redundant,
        "reason": result.reason,
        "segments": [_segment_summary(report, number) for number in range(len(plan.segments))],
        "summed_seconds": plan.predicted_seconds,
        "device_times": {
            name: {
                "computing_seconds": time.computing,
                "sending_seconds": time.sending,
                "waiting_seconds": time.waiting,
            }
            for index, name in enumerate(plan.devices)
            for time in (report.result.simulation.per_device(index),)
        },
        "comparison": None if report.comparison is None else _comparison_summary(report.comparison),
    }


def _segment_summary(report: Report, number: int) -> dict[str, Any]:
    plan = report.result.plan
    segment, cost = plan.segments[number], plan.costs[number]
    return {
        "layers": [layer.name for layer in report.graph.layers[segment.first : segment.stop]],
        "scheme": str(segment.scheme),
        "shares": list(segment.shares),
        "compute_seconds": max(plan_of_lone_request(plan).costs[number].compute_seconds, default=0.0),
        "device_compute_seconds": list(cost.compute_seconds),
        "exchange_seconds": cost.exchange_seconds,
        "exchange_bytes": cost.exchange_bytes,
    }


def _comparison_summary(comparison: Comparison) -> dict[str, Any]:
    return {
        "runner_up": None if comparison.runner_up is None else comparison.runner_up.name,
        "reason": comparison.reason,
        "strategies": [
            {
                "name": rival.name,
                "predicted_seconds": rival.latency_seconds,
                "compute_seconds": rival.totals.compute_seconds,
                "exchange_seconds": rival.totals.exchange_seconds,
                "messages": rival.totals.messages,
                "exchange_bytes": rival.totals.nbytes,
                "segments": len(rival.plan.segments),
                "memory_bytes": {name: need.total for name, need in zip(rival.plan.devices, rival.needs, strict=True)},
                "fits": rival.fits,
            }
            for rival in comparison.rivals
        ],
    }


def print_plan(report: Report) -> None:
    """Tables and sentences on stdout."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 120)
    console.print(_segment_table(report))
    console.print(_device_table(report))
    if report.comparison is not None:
        console.print(_strategy_table(report, report.comparison))
    for line in sentences(report):
        click.echo(line)


def sentences(report: Report) -> list[str]:
    """What there is to say beside the tables."""
    result = report.result
    plan = result.plan
    lines = [
        f"Predicted: {milliseconds(result.latency_seconds)}; the best single device alone: "
        f"{milliseconds(result.single_device_seconds)}"
        f"{'' if result.single_device_fits else ' (it lacks the memory)'}. Planned in {report.search_seconds:.2f} s.",
        f"With many requests in flight: {result.occupation.requests_per_second:.3g} requests/s, limited by "
        f"{result.occupation.busiest(plan.devices)}.",
    ]
    if turns(plan.segments):
        lines.append("Each request is answered by one device alone, while the others answer other requests.")
    elif len(plan.participants) > 1:
        lines.append(
            f"{report.work.split:.1%} of the multiply-adds are divided over devices; halos that several devices "
            f"compute add {report.work.redundant:.1%}."
        )
    if plan.boundary is Boundary.FLOAT16:
        lines.append(
            "Between devices float32 tensors are float16: the answers are rounded; `flexpie verify` tells how much."
        )
    lines.append(result.reason)
    if report.comparison is not None and report.comparison.reason:
        lines.append(report.comparison.reason)
    if result.exact:
        lines.append("The search was exact: as far as the predictions are right, no plan is faster.")
    return lines


def milliseconds(seconds: float) -> str:
    """``12.3 ms``."""
    return f"{seconds * 1e3:,.1f} ms"


def _segment_table(report: Report) -> Any:
    graph, plan = report.graph, report.result.plan
    inputs = ", ".join(f"{name} {list(graph.tensors[name].shape)}" for name in graph.inputs)
    table = _table(
        f"{graph.name}, {inputs}: {counted(len(graph.layers), 'layer')} in {counted(len(plan.segments), 'segment')}",
        ("layers", "right"), ("first … last", "left"), ("scheme", "left"), ("devices", "left"),
        ("sent before", "right"), ("exchange", "right"), ("compute", "right"),
    )  # fmt: skip
    for segment, cost in zip(plan.segments, plan_of_lone_request(plan).costs, strict=True):
        layers = graph.layers[segment.first : segment.stop]
        table.add_row(
            str(len(layers)),
            layers[0].name if len(layers) == 1 else f"{layers[0].name} … {layers[-1].name}",
            segment.scheme.kind.value,
            report.shares(segment),
            f"{cost.exchange_bytes / 1e3:,.1f} kB",
            f"{cost.exchange_seconds * 1e3:.2f} ms",
            f"{max(cost.compute_seconds, default=0.0) * 1e3:.2f} ms",
        )
    table.add_section()
    gathered = sum(graph.tensors[name].nbytes for name in graph.outputs)
    table.add_row(
        "", "outputs", "", "to the master", f"{gathered / 1e3:,.1f} kB", f"{plan.gather_seconds * 1e3:.2f} ms"
    )
    return table


def _device_table(report: Report) -> Any:
    """What each device does with the time of one request, by the simulation."""
    table = _table(
        f"One request, simulated: {milliseconds(report.result.simulation.latency)}",
        ("device", "left"), ("computing", "right"), ("sending", "right"), ("waiting", "right"),
    )  # fmt: skip
    for index in report.result.plan.participants:
        time = report.result.simulation.per_device(index)
        parts = (f"{seconds * 1e3:.2f} ms" for seconds in (time.computing, time.sending, time.waiting))
        table.add_row(report.cluster.devices[index].name, *parts)
    return table


def _strategy_table(report: Report, comparison: Comparison) -> Any:
    table = _table(
        "Other strategies",
        ("strategy", "left"), ("predicted", "right"), ("against this plan", "right"), ("computing", "right"),
        ("exchanges", "right"), ("messages", "right"), ("sent", "right"), ("memory", "left"),
    )  # fmt: skip
    own = report.result.latency_seconds
    for rival in comparison.rivals:
        ratio = rival.latency_seconds / own if own else 1.0
        table.add_row(
            rival.name,
            milliseconds(rival.latency_seconds),
            f"{ratio:.2f}x",
            milliseconds(rival.totals.compute_seconds),
            milliseconds(rival.totals.exchange_seconds),
            str(rival.totals.messages),
            f"{rival.totals.nbytes / 1e6:,.2f} MB",
            memory_of(report.cluster, rival),
        )
    return table


def memory_of(cluster: Cluster, rival: Rival) -> str:
    """Whether a strategy fits the devices' memory, and if not what it would take."""
    if rival.fits:
        return "fits"
    over = [
        f"{device.name} needs {need.total / 1e6:,.1f} MB of {device.memory_bytes / 1e6:,.1f} MB"
        for device, need in zip(cluster.devices, rival.needs, strict=True)
        if device.memory_bytes is not None and need.total > device.memory_bytes
    ]
    return "; ".join(over)


def _table(title: str, *columns: tuple[str, str]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for column, justify in columns:
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    return table
