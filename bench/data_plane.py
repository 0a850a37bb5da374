"""What dividing costs each device's processor: the time outside onnxruntime, per inference and per message.

    python -m bench.data_plane [--model resnet18] [--devices 4] [--inferences 300] [--boundary float16] [--exchanges 4]

Real worker processes and a master on loopback, with a plan for devices at a fifth of a core and 1 Gbit/s; or, so that
figures of different plans can be compared, one by rows with so many exchanges between devices. Each worker keeps to one
core, as the testbed's devices do. Other work on the machine lengthens every figure, onnxruntime's as well: the ratio of
the two is what runs can be compared by.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

import flexpie_models
from flexpie import pipeline
from flexpie.cli.processes import DaemonProcess
from flexpie.client import Client
from flexpie.core.boundary import BOUNDARIES, Boundary
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import IN_H
from flexpie.master.cluster_file import read_cluster_file
from flexpie.security.channels import open_channel
from flexpie.wire.limits import channel_options
from flexpie.wire.v1.worker_pb2 import WorkerStatusReply, WorkerStatusRequest
from flexpie.wire.v1.worker_pb2_grpc import WorkerServiceStub
from flexpie.worker.engine import OnnxRuntimeEngine

SECONDS = 120.0
"""Deadline of each call."""
_ARGUMENTS = ("--port", "0", "--log-level", "warning", "--with-parent")
_WORKER = ("--no-unix-socket",)
"""Devices send their messages over TCP."""


@dataclass(frozen=True)
class Use:
    """What one device used per inference, in milliseconds, and how many messages it sent and received."""

    engine: float
    steps: float
    event_loop: float
    libraries: float
    """Threads of gRPC."""
    sent: float
    received: float
    kilobytes: float

    @property
    def outside(self) -> float:
        """All but onnxruntime."""
        return self.steps + self.event_loop + self.libraries

    @property
    def per_message(self) -> float:
        """Microseconds per message end."""
        return self.outside * 1000 / max(1.0, self.sent + self.received)


def used(before: WorkerStatusReply, after: WorkerStatusReply, inferences: int) -> Use:
    """The difference of two counts."""
    parts = {
        part: (getattr(after.cpu, part) - getattr(before.cpu, part)) * 1000 / inferences
        for part in ("process", "engine", "steps", "event_loop")
    }
    counts = {
        name: sum(getattr(item, name) for item in after.deployments) / inferences
        - sum(getattr(item, name) for item in before.deployments) / inferences
        for name in ("frames_sent", "frames_received", "bytes_sent")
    }
    libraries = parts["process"] - parts["engine"] - parts["steps"] - parts["event_loop"]
    return Use(parts["engine"], parts["steps"], parts["event_loop"], libraries, counts["frames_sent"],
               counts["frames_received"], counts["bytes_sent"] / 1000)  # fmt: skip


def measure(
    model: str, devices: int, inferences: int, rounds: int, in_flight: int, boundary: str, exchanges: int | None
) -> tuple[list[list[Use]], float]:
    """The devices' use in each round, and the median seconds of an inference."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flexpie-bench-")))
        cores = sorted(os.sched_getaffinity(0))
        workers = [
            _start(stack, "worker", [*_WORKER, "--state-dir", str(folder / str(index))], cores[index % len(cores)])
            for index in range(devices)
        ]
        cluster = folder / "cluster.yaml"
        lines = ["bandwidth: 1 Gbit/s", "latency: 50 us", "devices:"]
        lines += [f"  - {{name: d{i}, address: '{address}', speed: 0.2}}" for i, address in enumerate(workers)]
        cluster.write_text("\n".join(lines) + "\n")
        client = stack.enter_context(Client(_start(stack, "master", ["--cluster", str(cluster)]), timeout=SECONDS))
        channels = [stack.enter_context(open_channel(address, channel_options(), None)) for address in workers]
        stubs = [WorkerServiceStub(channel) for channel in channels]
        path = folder / f"{model}.onnx"
        path.write_bytes(flexpie_models.build(model).SerializeToString())
        if exchanges is None:
            client.load(path, name=model, boundary=boundary)
        else:
            client.load(path, name=model, plan=by_rows(path, cluster, exchanges, Boundary(boundary)))
        feeds = _inputs(path)
        seconds: list[float] = []
        _ask(client, model, feeds, inferences // 4 + 1, in_flight)
        found = []
        for _ in range(rounds):
            before = [stub.WorkerStatus(WorkerStatusRequest()) for stub in stubs]
            seconds += _ask(client, model, feeds, inferences, in_flight)
            after = [stub.WorkerStatus(WorkerStatusRequest()) for stub in stubs]
            found.append([used(*pair, inferences) for pair in zip(before, after, strict=True)])
    return found, statistics.median(seconds)


def by_rows(path: Path, cluster_file: Path, exchanges: int, boundary: Boundary) -> str:
    """A plan file by which all devices compute rows of every layer, in segments of about equally many layers."""
    model, cluster = pipeline.import_file(path), read_cluster_file(cluster_file).cluster
    layers, devices = len(model.graph.layers), cluster.devices
    cuts = [round(layers * number / (exchanges + 1)) for number in range(exchanges + 2)]
    segments = tuple(Segment(*ends, IN_H, (1.0,) * len(devices)) for ends in itertools.pairwise(cuts))
    plan = Plan(model.graph.signature, tuple(device.name for device in devices), segments, boundary=boundary)
    return pipeline.write_plan(model, cluster, plan)


def _start(stack: ExitStack, kind: str, arguments: list[str], core: int | None = None) -> str:
    process = DaemonProcess(f"flexpie.cli.{kind}_command", [*_ARGUMENTS, *arguments], kind)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    return stack.enter_context(process).address(SECONDS)


def _inputs(model: Path) -> dict[str, npt.NDArray[Any]]:
    draw = np.random.default_rng(7)
    feeds = {}
    for port in OnnxRuntimeEngine().load(model).inputs:
        shape = [length or 1 for length in port.shape]
        is_integer = port.dtype.value.startswith("int")
        feeds[port.name] = (
            draw.integers(0, 2, shape).astype(port.dtype.value) if is_integer
            else draw.standard_normal(shape).astype(np.float32)
        )  # fmt: skip
    return feeds


def _ask(client: Client, model: str, feeds: dict[str, npt.NDArray[Any]], count: int, in_flight: int) -> list[float]:
    def infer(_: int) -> float:
        began = time.perf_counter()
        client.infer(model, feeds)
        return time.perf_counter() - began

    with ThreadPoolExecutor(in_flight) as pool:
        return list(pool.map(infer, range(count)))


@click.command()
@click.option("--model", default="resnet18", show_default=True, type=click.Choice(flexpie_models.NAMES))
@click.option("--devices", default=4, show_default=True, type=click.IntRange(1, 8))
@click.option("--inferences", default=200, show_default=True, help="In each round.")
@click.option("--rounds", default=3, show_default=True, help="The median of them counts.")
@click.option("--in-flight", default=1, show_default=True, help="Requests at once.")
@click.option("--boundary", default="float32", show_default=True, type=click.Choice(BOUNDARIES))
@click.option("--exchanges", type=click.IntRange(0), help="Of a plan by rows, instead of FlexPie's own plan.")
def main(
    model: str, devices: int, inferences: int, rounds: int, in_flight: int, boundary: str, exchanges: int | None
) -> None:
    """Print the processor time of each device by part, in milliseconds per inference."""
    found, latency = measure(model, devices, inferences, rounds, in_flight, boundary, exchanges)
    table = Table("device", "onnxruntime", "steps", "event loop", "gRPC threads", "outside", "sent", "received", "kB",
                  "µs per message", title=f"{model}: ms of a core per inference")  # fmt: skip
    outside: list[float] = []
    engine = 0.0
    for device in range(devices):
        use = sorted((uses[device] for uses in found), key=lambda item: item.outside)[rounds // 2]
        outside.append(use.outside)
        engine += use.engine
        times = (use.engine, use.steps, use.event_loop, use.libraries, use.outside)
        counts = (f"{use.sent:.1f}", f"{use.received:.1f}", f"{use.kilobytes:.0f}", f"{use.per_message:.0f}")
        table.add_row(f"d{device}", *(f"{value:.2f}" for value in times), *counts)
    console = Console(width=140)
    console.print(table)
    console.print(
        f"Outside onnxruntime: mean {statistics.fmean(outside):.2f} ms, busiest {max(outside):.2f} ms, "
        f"{sum(outside) / engine:.2f} of onnxruntime's. Median latency here: {latency * 1e3:.1f} ms."
    )


if __name__ == "__main__":
    main()
