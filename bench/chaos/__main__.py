"""python -m bench.chaos [--minutes 10] [--seed 1]: faults on a testbed while clients ask, as root."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from bench.chaos.report import write_report
from bench.chaos.running import Settings, run
from bench.chaos.schedule import Kind
from flexpie.core.errors import FlexPieError

_NAMES = {kind.name.lower().replace("_", "-"): kind for kind in Kind}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0.1))
@click.option("--seed", default=1, show_default=True, help="Of the faults; the same seed draws the same ones.")
@click.option("--without", multiple=True, type=click.Choice(sorted(_NAMES)), help="Leave a kind of fault away.")
@click.option("--only", multiple=True, type=click.Choice(sorted(_NAMES)), help="Only these kinds of fault.")
@click.option("--cpu", default=0.2, show_default=True, help="Share of a core of every device.")
@click.option("--output", default=Path("chaos"), show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the report and the logs.")  # fmt: skip
def main(minutes: float, seed: int, without: tuple[str, ...], only: tuple[str, ...], cpu: float, output: Path) -> None:
    """Let four workers, their links and the master fail, one fault about every three seconds, while eight clients ask.

    Ends with code 1 when an answer was wrong, a request hung or failed for no good reason, or something is left behind.
    """
    kinds = tuple(kind for name, kind in _NAMES.items() if name not in without and (not only or name in only))
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise click.UsageError(f"{output} is not empty: choose another --output.")
    try:
        found = run(Settings(seed=seed, seconds=minutes * 60, cpu=cpu, kinds=kinds), output, click.echo)
    except FlexPieError as error:
        raise click.ClickException(str(error)) from None
    command = shlex.join(["python", "-m", "bench.chaos", *sys.argv[1:]])
    write_report(output, command, found.verdict, found.requests, found.events, found.afterwards, found.hosts)
    click.echo((output / "report.md").read_text().split("![")[0].strip())
    sys.exit(0 if found.verdict.passed else 1)


if __name__ == "__main__":
    main()
