"""How results of a benchmark look in a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flexpie.benchmark.summary import summarise, verdict
from flexpie.cli.bench_progress import duration
from flexpie.cli.bench_table import headline, table_of
from tests.unit.benchmark.examples import small_benchmark

RESULTS = summarise(small_benchmark())


def test_the_table_fits_and_has_the_figures() -> None:
    written = io.StringIO()
    Console(width=140, file=written).print(table_of(RESULTS))
    text = written.getvalue()
    assert "…" not in text
    row = next(line for line in text.splitlines() if "resnet18" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        "resnet18", "4 × 20%, 1 G mesh", "102.0", "51.0", "48.0", "81.0 InH", "2.00", "1.59 [1.58–1.60]", "",
    ]  # fmt: skip


def test_a_cell_in_one_line() -> None:
    assert headline(RESULTS[0]) == (
        "resnet18, 4 devices (20% each), 1 Gbit/s, mesh: auto 51.0 ms, 2.00 times as fast as onnxruntime, "
        "1.59 [1.58–1.60] times as fast as InH"
    )


def test_the_verdict_has_errors_gains_and_differences() -> None:
    assert verdict(RESULTS) == [
        "Error of the prediction, our plans: median 5.9%, worst 5.9% of 1.",
        "Error of the prediction, all plans: median 6.6%, worst 7.4% of 2.",
        "Ours against the best other strategy: mean 1.588×, worst 1.588×, cells: 1.",
        "Largest difference from unsplit onnxruntime: 1.0e-07 of the largest output.",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
