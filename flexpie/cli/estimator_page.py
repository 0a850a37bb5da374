"""The page of `flexpie estimator evaluate`: one HTML file with its plots inside."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from flexpie.planner.estimator.training import Evaluation

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%}"""
_TITLES = {
    "grouped": "Not seen, grouped by configuration",
    "well_measured": "Those measured several times, each once",
    "well_measured_long": "Of these, 100 µs and more",
    "leave_one_device_out": "On a device that was not seen",
    "leave_one_device_out_long": "Of these, 100 µs and more",
    "whole_devices": "All that a device computes",
    "repeated_measurements": "The same, measured again",
    "physics": "Physics alone",
}


def write_page(folder: Path, evaluation: Evaluation, summary: dict[str, Any]) -> Path:
    """Write ``index.html``; returns where it is."""
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    compute = summary["compute"]
    operators = dict(sorted(compute["by_operator"].items(), key=lambda item: -item[1]["rows"]))
    path.write_text(
        f"<!doctype html><meta charset='utf-8'><title>FlexPie: estimators</title><style>{_STYLE}</style>"
        "<h1>Estimators</h1><p>Predictions are of estimators that saw neither the configuration nor, where it says so, "
        "the device. Errors are relative to what was measured; the last column is all differences over all measured "
        "seconds.</p><h2>i-Estimator: computing</h2>"
        f"<p>{compute['samples']:,} samples of {compute['configurations']:,} configurations.</p>"
        + _table(_titled(compute))
        + _picture(_predicted_against_measured(evaluation))
        + "<h3>By operator</h3>"
        + _picture(_by_operator(operators))
        + _table(operators)
        + "<h3>By device</h3>"
        + _table(compute["by_device"])
        + ("<h2>s-Estimator: exchanges</h2>" + _table(_titled(summary["exchange"])) if "exchange" in summary else "")
    )
    return path


def _titled(found: dict[str, Any]) -> dict[str, Any]:
    return {title: found[name] for name, title in _TITLES.items() if name in found}


def _table(rows: dict[str, Any]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(name)}<td>{row['rows']:,}"
        + "".join(f"<td>{row[column]:.1%}" for column in ("median", "mean", "ninth", "weighted"))
        for name, row in rows.items()
    )
    return f"<table><tr><th><th>samples<th>median<th>mean<th>nine of ten<th>of all seconds{cells}</table>"


def _predicted_against_measured(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    single, whole = figure.subplots(1, 2)
    pairs = (
        (single, (evaluation.measured.seconds, evaluation.by_configuration), "layers"),
        (whole, evaluation.launches(), "all that a device computes"),
    )
    for axes, (measured, predicted), title in pairs:
        axes.loglog(measured * 1e3, predicted * 1e3, ".", markersize=2, alpha=0.2)
        ends = np.array([measured.min(), measured.max()]) * 1e3
        axes.plot(ends, ends, color="black", linewidth=0.8)
        axes.set(title=title, xlabel="measured, ms", ylabel="predicted, ms")
    return figure


def _by_operator(operators: dict[str, Any]) -> Figure:
    shown = list(operators.items())[:20]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(shown))
    for offset, column in ((-0.2, "median"), (0.2, "mean")):
        axes.bar(places + offset, [row[column] * 100 for _, row in shown], 0.4, label=column)
    axes.set_xticks(places, [name for name, _ in shown], rotation=60, ha="right")
    axes.set_ylabel("error, %")
    axes.legend()
    return figure


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"<p><img alt='' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
