"""python -m bench.soak [--minutes 60]: full load on a testbed, as root: do memory and open files stay flat?"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil

from bench.chaos.records import ANSWERED, Request
from bench.chaos.running import READY_SECONDS, Settings, end_clients, start_clients, wait_for_clients
from bench.chaos.task import MODELS_YAML, write_models
from flexpie.core.errors import FlexPieError
from flexpie.testbed import MASTER, Testbed, uniform

FLAT = 0.02
"""Largest growth, relative to what there was after the warm-up."""
WARM_UP = 0.2
"""Share of the time after which daemons must have all the memory that they need."""
SAMPLE_SECONDS = 5.0


@dataclass(frozen=True)
class Sample:
    """What a daemon held at one moment."""

    daemon: str
    at: float
    """Seconds after the beginning."""
    memory_bytes: int
    """Resident."""
    files: int
    """Open descriptors, sockets included."""
    threads: int


@dataclass(frozen=True)
class Growth:
    """Of one daemon: medians of the first and the last quarter after the warm-up."""

    daemon: str
    memory_bytes: tuple[float, float]
    files: tuple[float, float]
    threads: tuple[float, float]

    @property
    def flat(self) -> bool:
        """Whether neither memory nor open files grew by more than `FLAT`."""
        return all(last <= first * (1 + FLAT) for first, last in (self.memory_bytes, self.files))


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """How much each daemon grew; needs a few samples of each after the warm-up."""
    end = max(sample.at for sample in samples)
    found = []
    for daemon in dict.fromkeys(sample.daemon for sample in samples):
        steady = [sample for sample in samples if sample.daemon == daemon and sample.at >= end * WARM_UP]
        quarter = max(1, len(steady) // 4)
        first, last = steady[:quarter], steady[-quarter:]
        found.append(Growth(
            daemon,
            _medians(first, last, lambda sample: sample.memory_bytes),
            _medians(first, last, lambda sample: sample.files),
            _medians(first, last, lambda sample: sample.threads),
        ))  # fmt: skip
    return found


def _medians(first: Sequence[Sample], last: Sequence[Sample], of: Callable[[Sample], int]) -> tuple[float, float]:
    return statistics.median(map(of, first)), statistics.median(map(of, last))


def soak(settings: Settings, folder: Path) -> tuple[list[Sample], tuple[Request, ...]]:
    """Run it; the folder keeps the logs."""
    description = uniform(settings.devices, settings.cpu, settings.bandwidth_bits_per_second)
    with Testbed(description, folder=folder, overload=True) as bed:
        write_models(folder)
        bed.write_cluster_file(MODELS_YAML)
        daemons = {MASTER: bed.run_master().pid}
        daemons |= {device.name: device.pid for device in bed.devices}
        clients = start_clients(bed, settings)
        wait_for_clients(clients, READY_SECONDS)
        started = time.monotonic()
        samples: list[Sample] = []
        while time.monotonic() < started + settings.seconds:
            time.sleep(SAMPLE_SECONDS)
            samples += _sample(daemons, time.monotonic() - started)
        return samples, end_clients(clients, settings, folder, started)


def _sample(daemons: dict[str, int], at: float) -> Iterator[Sample]:
    for name, pid in daemons.items():
        process = psutil.Process(pid)
        yield Sample(name, at, process.memory_info().rss, process.num_fds(), process.num_threads())


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FlexPieError as error:
        raise click.ClickException(str(error)) from None
    except psutil.NoSuchProcess as error:
        raise click.ClickException(f"A daemon ended by itself: {error}.") from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0.5))
@click.option("--output", default=Path("soak"), show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for samples and logs.")  # fmt: skip
def main(minutes: float, output: Path) -> None:
    """Let eight clients ask without a pause, and look at memory and open files of master and workers.

    Ends with code 1 when one grew by more than 2 % after the warm-up, or a request was not answered rightly.
    """
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise click.UsageError(f"{output} is not empty: choose another --output.")
    settings = Settings(seconds=minutes * 60, pause_seconds=0.0)
    with _explained():
        samples, requests = soak(settings, output)
    (output / "samples.jsonl").write_text("".join(json.dumps(asdict(sample)) + "\n" for sample in samples))
    found = growths(samples)
    click.echo("daemon   memory after warm-up, at the end   open files   threads")
    for growth in found:
        memory = " → ".join(f"{value / 2**20:.1f} MiB" for value in growth.memory_bytes)
        files, threads = (" → ".join(f"{value:g}" for value in pair) for pair in (growth.files, growth.threads))
        click.echo(f"{growth.daemon:8} {memory:24} {files:12} {threads:12} {'flat' if growth.flat else 'GROWS'}")
    failed = [request for request in requests if request.outcome != ANSWERED]
    click.echo(f"{len(requests)} requests, {len(requests) / settings.seconds:.0f} per second, {len(failed)} failed")
    for request in failed[:5]:
        click.echo(f"  at {request.started:.1f} s: {request.outcome} {request.message}")
    sys.exit(0 if not failed and all(growth.flat for growth in found) else 1)


if __name__ == "__main__":
    main()
