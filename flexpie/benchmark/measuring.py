"""One cell on its testbed: a master, a client, the model alone on a device; and launches of strategies among them."""

from __future__ import annotations

import datetime
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

from flexpie import testbed
from flexpie.benchmark.cells import ALONE, OURS, Cell
from flexpie.benchmark.model_files import ModelFiles
from flexpie.benchmark.orders import Answer, Server
from flexpie.benchmark.planning import Strategy
from flexpie.benchmark.records import Launch, Traced
from flexpie.benchmark.schedule import requests_in
from flexpie.client.types import TraceSpan
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed.processes import HostProcess

LOAD_SECONDS = 300.0
ASK_SECONDS = 600.0
CALIBRATION_SECONDS = 300.0
WARM_UP = 3
"""Requests of a launch that do not count."""
TRACE_SECONDS = 2.0
"""How long a strategy is traced, about: at least one request, and seven at most."""
_ORDER_SECONDS = 60.0


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def calibrate(bed: testbed.Testbed) -> None:
    """Measure a testbed's devices and links from the master's host, as a user would."""
    command = [sys.executable, "-m", "flexpie.cli.main", "calibrate", "--cluster", str(bed.cluster_file)]
    process = bed.start(testbed.MASTER, command, "calibrate")
    if process.wait(CALIBRATION_SECONDS) != 0:
        raise FlexPieError(ErrorCode.INTERNAL, f"The calibration failed: {process.log.strip()}")


def start_asking(stack: ExitStack, bed: testbed.Testbed, master: HostProcess, files: ModelFiles) -> Server:
    """A process beside the master that asks it; `stack` ends it."""
    asking = stack.enter_context(Server(bed, testbed.MASTER, "flexpie.benchmark.asking", "asking"))
    asking.order("open", _ORDER_SECONDS, master=master.address(), **files.arrays)
    return asking


def start_alone(stack: ExitStack, bed: testbed.Testbed, device: str) -> Server:
    """A process on a device, under its quota, that runs the unsplit model; `stack` ends it."""
    alone = stack.enter_context(Server(bed, device, "flexpie.benchmark.alone", "alone"))
    bed.put_on_quota(device, alone.process)
    return alone


class MeasuredCell:
    """The processes of a cell, there while a `with` block runs."""

    def __init__(self, bed: testbed.Testbed, cell: Cell, files: ModelFiles, strategies: Mapping[str, Strategy]) -> None:
        """`strategies` have plans for the testbed's cluster file."""
        self._bed = bed
        self._cell = cell
        self._files = files
        self._strategies = strategies
        self._processes = ExitStack()

    def __enter__(self) -> MeasuredCell:
        with ExitStack() as stack:
            for device in self._bed.devices:
                if not device.worker.alive():
                    self._bed.restart_worker(device.name)
            master = self._bed.run_master(*self._master_arguments())
            stack.callback(master.kill)
            self._asking = start_asking(stack, self._bed, master, self._files)
            if ALONE in self._strategies:
                host = self._bed.devices[self._cell.ground.fastest].name
                self._alone = start_alone(stack, self._bed, host)
            self._processes = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._processes.close()

    def launch(
        self, name: str, number: int, seconds: float, noisy: bool, traced: bool = False
    ) -> tuple[Launch, Traced | None]:
        """Deploy a strategy anew, warm it up, and ask it for about so many seconds; then, if wanted, trace it.

        Raises FlexPieError when it cannot be deployed, or a request fails.
        """
        with self._deployed(name) as ask:
            warm = ask(max(WARM_UP, self._cell.in_flight))
            one = warm["seconds"][-1] / self._cell.in_flight
            count = requests_in(seconds, one, least=5 * self._cell.in_flight)
            before = self._cpu_seconds(name)
            answer = ask(count)
            after = self._cpu_seconds(name)
            wanted = traced and name != ALONE and self._cell.in_flight == 1
            trace = self._trace(name, requests_in(TRACE_SECONDS, one, least=1, most=7)) if wanted else None
        launch = Launch(
            self._cell, name, number, tuple(round(value, 7) for value in answer["seconds"]), answer["wall_seconds"],
            max(warm["difference"], answer["difference"]), warm["equal"] and answer["equal"],
            {device: round((after[device] - before[device]) / count, 7) for device in after}, noisy, now(),
        )  # fmt: skip
        return launch, trace

    def _master_arguments(self) -> list[str]:
        """A master that knows of no other cell, and leaves the devices alone between requests."""
        return ["--no-standby", "--state-dir", tempfile.mkdtemp(prefix="master-", dir=self._bed.folder)]

    def _trace(self, name: str, requests: int) -> Traced:
        """Requests that do not count: whoever is watched is slower."""
        answer = self._asking.order("trace", ASK_SECONDS, name=name, requests=requests)
        began, ended = answer["client"]
        spans = (
            {device: tuple(TraceSpan(**span) for span in found) for device, found in answer["spans"].items()}
            if name == OURS
            else {}
        )
        return Traced(self._cell, name, tuple(answer["segment_seconds"]), (began, ended), spans)

    @contextmanager
    def _deployed(self, name: str) -> Iterator[Any]:
        """Something to ask with, while the strategy is there. Devices have their quotas only then."""
        strategy, files = self._strategies[name], self._files
        self._throttle(False)
        if name == ALONE:
            self._alone.order("load", LOAD_SECONDS, model=str(files.model), **files.arrays)
        else:
            shapes = {key: list(shape) for key, shape in files.shapes.items()}
            self._asking.order("load", LOAD_SECONDS, model=str(files.model), name=name, shapes=shapes,
                               plan=strategy.text)  # fmt: skip
        self._throttle(True)

        def ask(requests: int) -> Answer:
            if name == ALONE:
                return self._alone.order("ask", ASK_SECONDS, requests=requests)
            return self._asking.order("ask", ASK_SECONDS, name=name, requests=requests, in_flight=self._cell.in_flight)

        try:
            yield ask
        except FlexPieError:
            with suppress(FlexPieError):  # what the launch failed with matters more
                self._end(name)
            raise
        self._end(name)

    def _end(self, name: str) -> None:
        if name == ALONE:
            self._alone.order("unload", _ORDER_SECONDS)
        else:
            self._asking.order("unload", _ORDER_SECONDS, name=name)

    def _throttle(self, throttled: bool) -> None:
        for device in self._bed.devices:
            self._bed.limit_cpu(device.name, device.description.cpu if throttled else None)

    def _cpu_seconds(self, name: str) -> dict[str, float]:
        """Processor time of what computes for a strategy, by device."""
        if name == ALONE:
            return {self._bed.devices[self._cell.ground.fastest].name: self._alone.process.cpu_seconds}
        return {device.name: device.worker.cpu_seconds for device in self._bed.devices}
