"""Exchange traces of many clusters: testbeds with other devices, links and topologies, one after another, as root.

python -m bench.collect_traces --output DIR [--minutes M] [--beds NAME,...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from flexpie import testbed
from flexpie.core.cluster import Topology
from flexpie.testbed.processes import HostProcess

SPARE_SECONDS = 120.0
"""What calibrating and collecting may take longer than they should."""


@dataclass(frozen=True)
class Bed:
    """A testbed to collect on."""

    shares: tuple[float, ...]
    """Of a core, for each device."""
    megabits: tuple[float, ...]
    """Of each device's port; one for all."""
    topology: Topology = Topology.MESH

    @property
    def name(self) -> str:
        """Unique among `BEDS`: the place in the samples."""
        shares = "+".join(f"{share:.0%}" for share in self.shares)
        return f"{self.topology.value} {shares} {'+'.join(f'{rate:g}' for rate in self.megabits)}M"

    @property
    def description(self) -> testbed.Description:
        """What to emulate."""
        rates = [rate * 1e6 for rate in self.megabits]
        bandwidths = rates if len(rates) > 1 else rates[0]
        return testbed.uniform(len(self.shares), self.shares, bandwidths, self.topology)


def _beds() -> Iterator[Bed]:
    """Equal devices on links of four speeds, unequal ones, and other topologies; most useful first."""
    for megabits in (1000.0, 500.0):
        yield Bed((0.2,) * 4, (megabits,))
        yield Bed((0.3,) * 3, (megabits,))
        yield Bed((0.4,) * 2, (megabits,))
    for topology in (Topology.RING, Topology.STAR):
        yield Bed((0.2,) * 4, (1000.0,), topology)
    yield Bed((0.3, 0.2, 0.2, 0.1), (1000.0,))
    yield Bed((0.2,) * 4, (5000.0,))
    yield Bed((0.2,) * 4, (100.0,))
    yield Bed((0.2,) * 5, (1000.0,))
    yield Bed((0.1,) * 4, (1000.0,))
    yield Bed((0.5, 0.3), (500.0,))
    yield Bed((0.4, 0.2, 0.2), (1000.0, 500.0, 100.0))
    for megabits in (5000.0, 100.0):
        yield Bed((0.3,) * 3, (megabits,))
    for topology in (Topology.RING, Topology.STAR):
        yield Bed((0.2,) * 5, (500.0,), topology)


BEDS = {bed.name: bed for bed in _beds()}


@click.command()
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of traces.")
@click.option("--minutes", default=1.0, show_default=True, help="On each testbed, besides calibrating it.")
@click.option("--beds", help="Names of testbeds, separated by commas.  [default: all]")
def main(output: Path, minutes: float, beds: str | None) -> None:
    """Calibrate each testbed and collect exchange traces on it. What is in the folder already is not measured again."""
    names = beds.split(",") if beds else list(BEDS)
    if unknown := set(names) - set(BEDS):
        raise click.UsageError(f"There is no testbed {min(unknown)!r}; there are {', '.join(BEDS)}.")
    for name in names:
        start = time.monotonic()
        with testbed.Testbed(BEDS[name].description) as bed:
            _run(bed, "calibrate", 60.0, "--cluster", str(bed.cluster_file))
            calibrated = time.monotonic()
            words = ["--minutes", str(minutes), "--output", str(output.absolute()), "--place", name]
            said = _run(bed, "trace", minutes * 60, "--cluster", str(bed.cluster_file), *words)
        click.echo(f"{name}: calibrated in {calibrated - start:.0f} s with the testbed's start; {said}")


def _run(bed: testbed.Testbed, command: str, seconds: float, *words: str) -> str:
    """Run a command of `flexpie` on the master's host; returns the last line that it prints."""
    process: HostProcess = bed.start(
        testbed.MASTER, [sys.executable, "-m", "flexpie.cli.main", command, *words], command
    )
    code = process.wait(seconds + SPARE_SECONDS)
    lines = (bed.folder / f"{command}.log").read_text().splitlines()
    if code:
        raise click.ClickException(f"flexpie {command} ended with code {code}: {' | '.join(lines[-5:])}")
    return lines[-1] if lines else ""


if __name__ == "__main__":
    main()
