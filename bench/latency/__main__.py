"""python -m bench.latency [--models ...] [--devices 2,3,4] [--megabits 1000,500]: measure on testbeds, as root."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.console import Console

import flexpie_models
from bench.latency import records, report, running
from bench.latency.records import Cell

DEFAULT_MODELS = ("mobilenet_v1", "resnet18", "resnet101", "bert_base")


def _listed(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(value.split(","))


@click.command()
@click.option("--models", default=",".join(DEFAULT_MODELS), show_default=True, callback=_listed)
@click.option("--devices", default="2,3,4", show_default=True, callback=_listed, help="How many, for each testbed.")
@click.option("--megabits", default="1000,500", show_default=True, callback=_listed, help="Of every port, in Mbit/s.")
@click.option("--cpu", default=0.2, show_default=True, help="Share of a core of every device.")
@click.option("--strategies", default=",".join(records.STRATEGIES), show_default=True, callback=_listed)
@click.option("--rounds", default=5, show_default=True, help="How often each strategy has its turn.")
@click.option("--requests", default=4, show_default=True, help="In each turn.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("latency.jsonl"), show_default=True,
              help="Measurements are added to it; cells that are in it are not measured again.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), help="Picture of predicted against measured latency.")
def main(
    models: tuple[str, ...],
    devices: tuple[str, ...],
    megabits: tuple[str, ...],
    cpu: float,
    strategies: tuple[str, ...],
    rounds: int,
    requests: int,
    output: Path,
    plot: Path | None,
) -> None:
    """Run every model with every strategy on testbeds, and say how well the time was predicted.

    All strategies are deployed at once and asked in turn, so that each sees the same machine.
    """
    if unknown := set(models) - set(flexpie_models.NAMES) or set(strategies) - set(records.STRATEGIES):
        raise click.UsageError(f"Unknown: {', '.join(sorted(unknown))}.")
    console = Console(width=180)
    done = {item.cell for item in records.read(output)}
    wanted = [
        Cell(model, int(count), float(rate), (cpu,) * int(count))
        for count in devices
        for rate in megabits
        for model in models
    ]
    with tempfile.TemporaryDirectory(prefix="flexpie-bench-") as folder:
        running.measure(
            [cell for cell in wanted if cell not in done],
            strategies,
            rounds,
            requests,
            Path(folder),
            console.print,
            lambda found: records.append(output, found),
        )
    found = records.read(output)
    report.show(found, console)
    if plot is not None:
        report.plot(found, plot)


if __name__ == "__main__":
    main()
