"""`flexpie estimator`: train the estimators from traces, and look into them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flexpie.cli.console import json_option, print_json, reporting, shape_option
from flexpie.core.errors import ErrorCode, FlexPieError

if TYPE_CHECKING:
    from flexpie.core.cluster import Cluster
    from flexpie.planner.estimator.exchanges import MeasuredExchanges
    from flexpie.planner.estimator.training import Evaluation, Measured

LONG_SECONDS = 1e-4
"""Of layers that make up most of the time; the clock of onnxruntime's profiler counts whole microseconds."""
WELL_MEASURED = 5
"""Launches in which the same part of a layer was measured."""

traces_argument = click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group()
def estimator() -> None:
    """Train the estimators from traces, and look into them."""


@estimator.command()
@traces_argument
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for the estimators' files.")
@reporting
def train(traces: tuple[Path, ...], output: Path) -> None:
    """Train the estimators from folders of TRACES, each from the samples of its kind.

    They are LightGBM models in its text format.
    """
    from flexpie.planner.estimator.cost_model import COMPUTE_FILE, EXCHANGE_FILE
    from flexpie.planner.estimator.exchanges import train_exchanges
    from flexpie.planner.estimator.training import train as train_compute

    layers, exchanges = _layers(traces), _exchanges(traces)
    output.mkdir(parents=True, exist_ok=True)
    if layers is not None:
        train_compute(layers).save(output / COMPUTE_FILE)
        click.echo(f"{output / COMPUTE_FILE}: trained from {len(layers):,} samples")
    if exchanges is not None:
        train_exchanges(exchanges).save(output / EXCHANGE_FILE)
        click.echo(f"{output / EXCHANGE_FILE}: trained from {len(exchanges):,} samples")


@estimator.command()
@traces_argument
@click.option("--output", type=click.Path(path_type=Path), help="Folder for a page with errors and plots.")
@json_option
@reporting
def evaluate(traces: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Tell how wrong estimators are that are trained from folders of TRACES, on what they have not seen.

    Work is held out by configuration, so that equal work is never in training and test; and device by device.
    """
    from flexpie.planner.estimator.training import evaluate as evaluate_compute

    layers, exchanges = _layers(traces), _exchanges(traces)
    evaluation = None if layers is None else evaluate_compute(layers)
    summary: dict[str, Any] = {}
    if evaluation is not None:
        summary["compute"] = compute_summary(evaluation)
    if exchanges is not None:
        summary["exchange"] = exchange_summary(exchanges)
    if output is not None and evaluation is not None:
        from flexpie.cli.estimator_page import write_page

        click.echo(f"wrote {write_page(output, evaluation, summary)}", err=True)
    if as_json:
        print_json(summary)
    else:
        _print_evaluation(summary)


@estimator.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--cluster", "cluster_path", required=True, type=click.Path(path_type=Path), help="Cluster file.")
@click.option("--layer", help="Name of a layer; all layers without it.")
@click.option("--device", help="Name of a device; the first without it.")
@shape_option
@json_option
@reporting
def explain(
    model: Path,
    cluster_path: Path,
    layer: str | None,
    device: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    as_json: bool,
) -> None:
    """Tell what the i-Estimator makes of a whole layer of MODEL on a device, and why.

    Physics gives a time from the device's rates; each feature then makes it longer or shorter.
    """
    from flexpie import pipeline
    from flexpie.master.cluster_file import read_cluster_file
    from flexpie.planner.estimator.explaining import explain_layers

    cluster = read_cluster_file(cluster_path).cluster
    graph = pipeline.import_file(model, dict(shapes)).graph
    names = [item.name for item in graph.layers]
    if layer is not None and layer not in names:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"{graph.name} has no layer '{layer}'.",
                           f"Its first ones are {', '.join(names[:5])}.")  # fmt: skip
    explained = explain_layers(graph, _rates(cluster, device), names if layer is None else [layer])
    if as_json:
        print_json({"layers": [item.summary() for item in explained]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("layer", "physics", "predicted", "made longer by", "made shorter by")
    for item in explained:
        table.add_row(
            item.layer,
            f"{item.physics_seconds * 1e6:,.1f} µs",
            f"{item.predicted_seconds * 1e6:,.1f} µs",
            ", ".join(f"{name} ×{factor:.2f}" for name, factor in item.longer(3)),
            ", ".join(f"{name} ×{factor:.2f}" for name, factor in item.shorter(3)),
        )
    Console().print(table)


def _rates(cluster: Cluster, device: str | None) -> Any:
    for item in cluster.devices:
        if device in (None, item.name):
            return item.rates
    raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"The cluster has no device '{device}'.",
                       f"It has {', '.join(item.name for item in cluster.devices)}.")  # fmt: skip


def _layers(traces: tuple[Path, ...]) -> Measured | None:
    from flexpie.traces.measured import measured_layers
    from flexpie.traces.samples import ComputeSample

    found = _read(traces, ComputeSample)
    return None if found is None else measured_layers(found)


def _exchanges(traces: tuple[Path, ...]) -> MeasuredExchanges | None:
    from flexpie.traces.measured import exchanges
    from flexpie.traces.samples import ExchangeSample

    found = _read(traces, ExchangeSample)
    return None if found is None else exchanges(found)


def _read(traces: tuple[Path, ...], kind: Any) -> Any:
    """The samples of a kind; None where there are none but some of the other kind."""
    from flexpie.traces.samples import ComputeSample, ExchangeSample
    from flexpie.traces.store import parts_of, read_traces

    other = ExchangeSample if kind is ComputeSample else ComputeSample
    if not any(parts_of(folder, kind) for folder in traces) and any(parts_of(folder, other) for folder in traces):
        return None
    found = read_traces(traces, kind)
    for row in found.bad[:5]:
        click.echo(f"left out: {row}", err=True)
    if len(found.bad) > 5:
        click.echo(f"left out: {len(found.bad) - 5} more", err=True)
    return found


def compute_summary(evaluation: Evaluation) -> dict[str, Any]:
    """Relative errors of the i-Estimator as one JSON object."""
    import numpy as np

    from flexpie.planner.estimator.training import once, repeated_errors

    measured = evaluation.measured
    long = measured.seconds >= LONG_SECONDS

    def by(labels: Any) -> dict[str, Any]:
        return {
            str(name): _errors(measured.seconds[rows], evaluation.by_configuration[rows])
            for name in np.unique(labels)
            for rows in [labels == name]
        }

    return {
        "samples": len(measured),
        "configurations": len(np.unique(measured.configurations)),
        "grouped": _errors(measured.seconds, evaluation.by_configuration),
        "well_measured": _errors(*once(measured, evaluation.by_configuration, WELL_MEASURED)),
        "well_measured_long": _errors(*once(measured.only(long), evaluation.by_configuration[long], WELL_MEASURED)),
        "leave_one_device_out": _errors(measured.seconds, evaluation.by_device),
        "leave_one_device_out_long": _errors(measured.seconds[long], evaluation.by_device[long]),
        "whole_devices": _errors(*evaluation.launches()),
        "repeated_measurements": dataclasses.asdict(repeated_errors(measured)),
        "by_operator": by(measured.op_types),
        "by_device": by(measured.devices),
    }


def exchange_summary(measured: MeasuredExchanges) -> dict[str, Any]:
    """Relative errors of the s-Estimator as one JSON object."""
    import numpy as np

    from flexpie.planner.estimator.exchanges import cross_validated_exchanges
    from flexpie.planner.estimator.training import fold_of

    by_place = np.unique(measured.devices, return_inverse=True)[1].astype(np.int64)
    by_configuration = fold_of(measured.configurations)
    return {
        "samples": len(measured),
        "configurations": len(np.unique(measured.configurations)),
        "grouped": _errors(measured.seconds, cross_validated_exchanges(measured, by_configuration)),
        "leave_one_device_out": _errors(measured.seconds, cross_validated_exchanges(measured, by_place)),
        "physics": _errors(measured.seconds, measured.physics_seconds),
    }


def _errors(measured: Any, predicted: Any) -> dict[str, Any]:
    from flexpie.planner.estimator.training import errors

    return dataclasses.asdict(errors(measured, predicted))


def _print_evaluation(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = {
        "grouped": "not seen (grouped by configuration)",
        "well_measured": f"those measured {WELL_MEASURED} times, each once",
        "well_measured_long": "of these, 100 µs and more",
        "leave_one_device_out": "on a device not seen",
        "leave_one_device_out_long": "of these, 100 µs and more",
        "whole_devices": "all that a device computes, not seen",
        "repeated_measurements": "the same, measured again",
        "physics": "physics alone",
    }
    names = {"compute": "i-Estimator: computing", "exchange": "s-Estimator: exchanges"}
    for kind, found in summary.items():
        table = Table(names[kind], "samples", "median", "mean", "nine of ten", "of all seconds")
        rows = [(title, found[name]) for name, title in titles.items() if name in found]
        rows += sorted(found.get("by_operator", {}).items(), key=lambda item: -item[1]["rows"])
        for title, row in rows:
            percents = (f"{row[name]:.1%}" for name in ("median", "mean", "ninth", "weighted"))
            table.add_row(title, f"{row['rows']:,}", *percents)
        Console().print(table)
