"""One testbed after the other, each with a calibrated master, and every model on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import flexpie_models
from bench.latency.asking import Task
from bench.latency.records import ALONE, Cell, Measurement
from flexpie import testbed
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.routing import MASTER_ADDRESS
from flexpie.worker.engine import OnnxRuntimeEngine

LOAD_SECONDS = 900.0
ALONE_PORT = 50900


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk with an input and the answer to it."""

    name: str
    model: Path
    inputs: Path
    expected: Path


def prepare(name: str, folder: Path) -> ModelFiles:
    """Build a model of the zoo, draw an input for it, and run it unsplit."""
    files = ModelFiles(name, *(folder / f"{name}{suffix}" for suffix in (".onnx", ".in.npz", ".out.npz")))
    if not files.expected.exists():
        files.model.write_bytes(flexpie_models.build(name).SerializeToString())
        session = OnnxRuntimeEngine(threads=2).load(files.model)
        draw = np.random.default_rng(7)
        arrays = {}
        for port in session.inputs:
            shape = [length or 1 for length in port.shape]
            if port.dtype.value.startswith("int"):
                arrays[port.name] = draw.integers(0, 2, shape).astype(port.dtype.value)
            else:
                arrays[port.name] = draw.standard_normal(shape).astype(np.float32)
        np.savez(files.inputs, **arrays)  # type: ignore[arg-type]  # numpy: the keywords are arrays
        outputs = session.run(list(arrays.values()))
        found = {port.name: np.asarray(value) for port, value in zip(session.outputs, outputs, strict=True)}
        np.savez(files.expected, **found)  # type: ignore[arg-type]
    return files


def measure(
    cells: Sequence[Cell],
    strategies: Sequence[str],
    rounds: int,
    requests: int,
    folder: Path,
    say: Callable[[str], None],
    keep: Callable[[Sequence[Measurement]], None],
) -> None:
    """All cells; those on the same testbed share it. `keep` gets the measurements of each cell as soon as they are
    there."""
    grounds = dict.fromkeys((cell.cpu, cell.megabits) for cell in cells)
    for cpu, megabits in grounds:
        here = [cell for cell in cells if (cell.cpu, cell.megabits) == (cpu, megabits)]
        description = testbed.uniform(len(cpu), cpu, megabits * 1e6)
        with testbed.Testbed(description) as bed:
            say(f"{len(cpu)} devices, {megabits:g} Mbit/s: calibrating")
            calibrate(bed)
            for cell in here:
                say(f"{len(cpu)} devices, {megabits:g} Mbit/s: {cell.model}")
                master = bed.run_master()
                keep(_measure_cell(bed, master.address(), cell, strategies, rounds, requests, folder))
                master.kill()


def calibrate(bed: testbed.Testbed) -> None:
    """Measure the testbed's devices and links from the master's host, as a user would."""
    command = [sys.executable, "-m", "flexpie.cli.main", "calibrate", "--cluster", str(bed.cluster_file)]
    process = bed.start(testbed.MASTER, command, "calibrate")
    if process.wait(300.0) != 0:
        raise RuntimeError(f"calibration failed:\n{process.log}")


def _measure_cell(
    bed: testbed.Testbed,
    master: str,
    cell: Cell,
    strategies: Sequence[str],
    rounds: int,
    requests: int,
    folder: Path,
) -> list[Measurement]:
    files = prepare(cell.model, folder)
    task_file, result, loaded = (bed.folder / f"{cell.model}.{kind}" for kind in ("task", "result", "loaded"))
    listen = f"{MASTER_ADDRESS}:{ALONE_PORT}" if ALONE in strategies else ""
    task = Task(master, str(files.model), str(files.inputs), str(files.expected), tuple(strategies), rounds, requests,
                listen, str(loaded))  # fmt: skip
    task_file.write_text(json.dumps(asdict(task)))
    for device in bed.devices:
        bed.limit_cpu(device.name, None)  # loading sessions is not what is measured
    command = [sys.executable, "-m", "bench.latency.asking", str(task_file), str(result)]
    asking = bed.start(testbed.MASTER, command, f"asking-{cell.model}")
    alone = None
    if listen:
        fastest = max(bed.devices, key=lambda device: device.description.cpu).name
        alone = _start_alone(bed, fastest, listen, files)
    _wait_until_there(loaded, asking)
    for device in bed.devices:
        bed.limit_cpu(device.name, device.description.cpu)
        if alone is not None and device.name == fastest:
            bed.put_on_quota(device.name, alone)
    loaded.unlink()
    if asking.wait(LOAD_SECONDS) != 0:
        raise RuntimeError(f"asking failed:\n{asking.log}")
    answers = json.loads(result.read_text())
    return [
        Measurement(cell, name, value["predicted_seconds"], tuple(value["seconds"]), value["difference"],
                    value["failure"])
        for name, value in answers.items()
    ]  # fmt: skip


def _start_alone(bed: testbed.Testbed, device: str, address: str, files: ModelFiles) -> HostProcess:
    command = [sys.executable, "-m", "bench.latency.alone", address, str(files.model), str(files.inputs)]
    return bed.start(device, command, f"alone-{files.name}")


def _wait_until_there(path: Path, process: HostProcess) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while not path.exists():
        if not process.alive() or time.monotonic() > deadline:
            raise RuntimeError(f"loading failed:\n{process.log}")
        time.sleep(0.05)
