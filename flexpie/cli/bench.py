"""`flexpie bench`: strategies against one another, executed on emulated devices; and the report of it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flexpie.cli.bench_options import PRESETS, Counts, Listed
from flexpie.cli.console import counted, reporting
from flexpie.cli.testbed_options import Bandwidths, CpuShares
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.strategy import AUTO, BASELINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexpie.benchmark.cells import Cell
    from flexpie.benchmark.records import Record
    from flexpie.benchmark.sweep import Outcome, Settings

EXIT_INCOMPLETE = 1
"""An answer was wrong, or cells were left out because of noise or failures."""
_STRATEGIES = (AUTO, "onnxruntime", *BASELINES)
_MORE = (f"{AUTO}-float16",)
"""Measured where they are asked for only."""


@click.group(invoke_without_command=True)
@click.option(
    "--preset",
    default="quick",
    show_default=True,
    type=click.Choice(list(PRESETS)),
    help="What is measured unless other options say so: 'quick' takes minutes, 'full' hours.",
)
@click.option("--models", type=Listed(), help="Example models; `flexpie models` lists them.")
@click.option("--devices", type=Counts(1, 64), help="How many devices.")
@click.option("--shares", type=Listed(("equal", "unequal")), help="Equal devices, or the second half half as fast.")
@click.option(
    "--cpu", default="20%", show_default=True, type=CpuShares(), metavar="SHARE", help="Share of a core of a device."
)
@click.option("--bandwidth", type=Bandwidths(), help="Of every device's port.")
@click.option("--topology", type=Listed(("mesh", "ring", "star")), help="How messages travel.")
@click.option(
    "--strategies",
    type=Listed((*_STRATEGIES, *_MORE)),
    help="What is compared; 'auto' is FlexPie's own plan, "
    "'onnxruntime' the model alone on the fastest device; 'auto-float16' has float16 boundaries.  "
    "[default: all but that]",
)
@click.option("--in-flight", default="1", show_default=True, type=Counts(1, 256), help="Requests under way at once.")
@click.option("--launches", type=click.IntRange(1, 1000), help="Of each strategy in each cell.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop in time; the same command goes on.")
@click.option(
    "--output",
    default="results.jsonl",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of results.",
)
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on with a file of results, or refuse one that is there.",
)
@click.option("--accept-noise", is_flag=True, help="Measure also where the self-test complains, and mark it.")
@click.option("--simulate", is_flag=True, help="Simulate every cell; needs no root.")
@click.option(
    "--calibration/--no-calibration",
    default=True,
    show_default=True,
    help="Plan with measured rates, or with shares of a core.",
)
@click.pass_context
@reporting
def bench(
    context: click.Context, preset: str, models: tuple[str, ...] | None, devices: tuple[int, ...] | None,
    shares: tuple[str, ...] | None, cpu: list[float], bandwidth: list[float] | None, topology: tuple[str, ...] | None,
    strategies: tuple[str, ...] | None, in_flight: tuple[int, ...], launches: int | None, minutes: float | None,
    output: Path, resume: bool, accept_noise: bool, simulate: bool, calibration: bool,
) -> None:  # fmt: skip
    """Measure strategies on emulated devices (Linux, as root).

    Every combination of models, devices, bandwidths and topologies is a cell; in each, all strategies are launched in
    turn, and every answer is compared with unsplit onnxruntime. What this machine cannot hold is simulated.
    """
    if context.invoked_subcommand is not None:
        return
    if len(cpu) != 1:
        raise click.UsageError("--cpu takes one share; --shares makes devices unequal")
    from flexpie.benchmark.cells import all_cells
    from flexpie.benchmark.cells import shares as cpu_shares
    from flexpie.benchmark.sweep import Settings
    from flexpie.core.cluster import Topology

    chosen = PRESETS[preset]
    cells = all_cells(
        models or chosen.models,
        [cpu_shares(n, cpu[0], kind) for kind in shares or chosen.kinds for n in devices or chosen.devices],
        bandwidth or chosen.bandwidths,
        [Topology(name) for name in topology or chosen.topologies],
        in_flight,
    )
    _check_models({cell.model for cell in cells})
    settings = Settings(
        cells, strategies or _STRATEGIES, launches or chosen.launches, chosen.launch_seconds, minutes,
        accept_noise, simulate, calibration,
    )  # fmt: skip
    if not resume and output.exists() and output.stat().st_size:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"{output} is there already.",
                           "Give another file with --output, or --resume to add to it.")  # fmt: skip
    sys.exit(_run(settings, output))


def _run(settings: Settings, output: Path) -> int:
    """The command's exit code."""
    import flexpie_models
    from flexpie.benchmark.measuring import now
    from flexpie.benchmark.model_files import ModelLibrary
    from flexpie.benchmark.records import new_header
    from flexpie.benchmark.results import ResultFile
    from flexpie.benchmark.sweep import sweep
    from flexpie.cli.bench_progress import ProgressBar
    from flexpie.cli.bench_table import headline

    with ResultFile(output, new_header(now())) as file, tempfile.TemporaryDirectory(prefix="flexpie-bench-") as folder:
        library = ModelLibrary(Path(folder), lambda name: flexpie_models.build(name).SerializeToString())
        try:
            with ProgressBar(headline) as bar:
                outcome = sweep(settings, file, library, bar)
        except KeyboardInterrupt:
            _show(file.records, settings.cells)
            click.echo(f"All finished launches are in {output}; the same command goes on.", err=True)
            raise
        _show(file.records, settings.cells)
    return _tell(outcome, output)


def _check_models(names: set[str]) -> None:
    import flexpie_models

    if unknown := sorted(names - set(flexpie_models.NAMES)):
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"There is no example model {', '.join(unknown)}.",
                           f"Choose from {', '.join(flexpie_models.NAMES)}.")  # fmt: skip


def _show(records: Sequence[Record], cells: Sequence[Cell]) -> None:
    """A table of the cells that were asked for."""
    from rich.console import Console

    from flexpie.benchmark.summary import summarise, verdict
    from flexpie.cli.bench_table import table_of

    wanted = set(cells)
    if results := summarise(record for record in records if record.cell in wanted):
        Console(width=max(120, Console().width)).print(table_of(results))
        for line in verdict([result for result in results if result.measured]):
            click.echo(line)


def _tell(outcome: Outcome, output: Path) -> int:
    """Say how it ended; returns the exit code."""
    parts = [f"{counted(len(outcome.measured), 'cell')} measured"]
    for cells, what in (
        (outcome.simulated, "simulated"),
        (outcome.noisy, "left out: the machine is too noisy (--accept-noise measures them all the same)"),
        (outcome.failed, "failed"),
        (outcome.wrong, "with a WRONG ANSWER"),
    ):
        parts += [f"{len(cells)} {what}"] if cells else []
    click.echo(f"{'; '.join(parts)}. Results: {output}")
    if outcome.out_of_time:
        click.echo("The time is up; the same command goes on.")
    return EXIT_INCOMPLETE if outcome.noisy or outcome.failed or outcome.wrong else 0


@bench.command()
@click.argument("results", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--output",
    default="docs/benchmarks",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the pages.",
)
@reporting
def report(results: Path, output: Path) -> None:
    """Write pages and pictures of a file of RESULTS."""
    from flexpie.benchmark.report.writing import write_report
    from flexpie.benchmark.results import read_results

    for path in write_report(read_results(results), output):
        click.echo(path)
