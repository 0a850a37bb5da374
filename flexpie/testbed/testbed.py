"""The testbed: emulated devices with real workers, there while a `with` block runs."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import routing, signals, ticker
from flexpie.testbed.cluster_file import cluster_file_text, worker_address
from flexpie.testbed.cores import cores_for, pin
from flexpie.testbed.cpu import find_cpu_controller, usable_cores
from flexpie.testbed.description import MASTER, Description, DeviceDescription, check_fits
from flexpie.testbed.faults import Faults
from flexpie.testbed.leftovers import remove_leftovers, remove_testbed
from flexpie.testbed.naming import Names, new_run
from flexpie.testbed.network import Host, Network
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.records import DeviceRecord, Records, RunRecord, identify

START_SECONDS = 120.0
"""How long a worker or a master may take until it listens, on a busy machine."""

_TICKING = re.compile("^ticking$", re.MULTILINE)


@dataclass
class EmulatedDevice:
    """A running device."""

    description: DeviceDescription
    namespace: str
    address: str
    """``host:port`` of its worker."""
    worker: HostProcess

    @property
    def name(self) -> str:
        """As in the description and the cluster file."""
        return self.description.name

    @property
    def pid(self) -> int:
        """Of its worker."""
        return self.worker.pid


class Testbed:
    """Devices in network namespaces, each with a CPU quota, a shaped link and a `flexpie-worker`.

    Use it in a `with` block: it is ready when the block begins, and gone when it ends, also by an exception, Ctrl-C
    or SIGTERM. What a killed process leaves, the next testbed removes.

    Parameters
    ----------
    folder: for logs, the daemons' states and the cluster file; kept afterwards. Without it, a temporary one.
    overload: accept more devices than this machine holds, for tests whose times do not matter.
    worker_arguments: more arguments for every worker.

    Raises FlexPieError(INVALID_ARGUMENT) on entering where this machine cannot emulate what is described.
    """

    def __init__(
        self,
        description: Description,
        *,
        folder: Path | None = None,
        overload: bool = False,
        worker_arguments: Sequence[str] = (),
        records: Records | None = None,
    ) -> None:
        self.description = description
        self.devices: list[EmulatedDevice] = []
        self._given_folder = folder
        self._overload = overload
        self._worker_arguments = tuple(worker_arguments)
        self._records = records or Records()
        self._guard = signals.TerminationGuard()
        self._processes: list[HostProcess] = []
        self._noted: RunRecord | None = None
        self._noting = threading.Lock()

    def __enter__(self) -> Testbed:
        check_rights()
        self._controller = find_cpu_controller(Path("/proc/mounts").read_text())
        self._guard.install()
        try:
            self._reserve()
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._remove()

    # ------------------------------------------------------------------------------------------------ use

    @property
    def run_id(self) -> str:
        """In the names of all that belongs to this testbed."""
        return self._record.run

    @property
    def folder(self) -> Path:
        """Logs, the daemons' states and the cluster file."""
        return Path(self._record.folder)

    @property
    def cluster_file(self) -> Path:
        """A cluster file of the devices, without models."""
        return self.folder / "cluster.yaml"

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The devices' hosts in their order, and then the master's."""
        return self._network.hosts

    @property
    def processes(self) -> tuple[HostProcess, ...]:
        """All that this testbed has started and that has not ended."""
        return tuple(process for process in self._processes if process.alive())

    def device(self, name: str) -> EmulatedDevice:
        """The device of that name; raises FlexPieError(INVALID_ARGUMENT) when there is none."""
        for device in self.devices:
            if device.name == name:
                return device
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"The testbed has no device {name!r}.",
                           f"It has {', '.join(device.name for device in self.devices)}.")  # fmt: skip

    def write_cluster_file(self, more: str = "", speeds: Mapping[str, float] | None = None) -> Path:
        """Write `cluster_file` anew, with more lines (``models:``) or measured speeds; returns its path."""
        self.cluster_file.write_text(cluster_file_text(self.description, speeds, more))
        return self.cluster_file

    def run_master(self, *arguments: str) -> HostProcess:
        """Start `flexpie-master` with the cluster file on a host of its own, without a CPU quota; it listens already.
        Started again when it has ended, it knows what it knew.

        A client reaches it from that host: `start` one there.
        """
        address = ["--host", routing.MASTER_ADDRESS, "--port", str(routing.MASTER_PORT), "--insecure"]
        files = ["--cluster", str(self.cluster_file), "--state-dir", str(self.folder / "master-state")]
        command = ["flexpie.cli.master_command", *address, *files, *arguments]
        master = self.start(MASTER, [sys.executable, "-m", *command], "master")
        master.address(START_SECONDS)
        return master

    def start(self, host: str, command: Sequence[str], name: str) -> HostProcess:
        """Start any command on a host; on a device without its CPU quota. It ends with the testbed."""
        log = self.folder / f"{name}.log"
        process = HostProcess(name, self._network.host(host).namespace, command, log)
        self._processes.append(process)
        return process

    def limit_cpu(self, device: str, cpu: float | None) -> None:
        """Give a device another CPU share; None is all that it can get."""
        self._controller.limit(self._names.cgroup, self.device(device).name, cpu)

    def put_on_quota(self, device: str, process: HostProcess) -> None:
        """Let a process share a device's CPU quota, and its core, with the device's worker."""
        self._controller.add(self._names.cgroup, self.device(device).name, process.pid)
        core = self._cores[device]
        if core is not None:
            pin(process.pid, core)

    def restart_worker(self, device: str) -> None:
        """Start a device's worker again, with its address and its state; it listens when this returns.

        Several threads may do this at once, for different devices.
        """
        restarted = self.device(device)
        restarted.worker.kill()
        restarted.worker = self._start_worker(restarted.description)
        self._throttle(restarted)
        self._note_devices()

    # ---------------------------------------------------------------------------------------------- build

    def _reserve(self) -> None:
        """Remove leftovers, check that the machine holds one more, and note this testbed before it is built."""
        with self._records.locked():
            remove_leftovers(self._records, self._controller)
            running = self._records.all()
            cores = usable_cores(self._controller, Path("/proc/self/cgroup").read_text())
            if not self._overload:
                check_fits(self.description, cores, {record.run: record.cpu for record in running})
            self._names = Names(new_run([record.run for record in running]))
            given = self._given_folder
            folder = given.absolute() if given else Path(tempfile.mkdtemp(prefix=f"flexpie-testbed-{self._names.run}-"))
            self._note(RunRecord(
                self._names.run, identify(os.getpid()), str(folder), self.description.cpu,
                self.description.topology.value, owns_folder=given is None,
            ))  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)

    def _build(self) -> None:
        names = [device.name for device in self.description.devices]
        shares = [device.cpu for device in self.description.devices]
        self._cores = dict(zip(names, cores_for(shares, sorted(os.sched_getaffinity(0))), strict=True))
        self._controller.create(self._names.cgroup)
        self._network = Network(self.description, self._names)
        self._network.build()
        self.faults = Faults(self._network, lambda name: self.device(name).worker)
        tickers = [self._start_ticker(core) for core in sorted(os.sched_getaffinity(0))]
        workers = [self._start_worker(device) for device in self.description.devices]
        for process in tickers:
            process.wait_for(_TICKING, START_SECONDS)
        for at, (device, worker) in enumerate(zip(self.description.devices, workers, strict=True)):
            host = self._network.hosts[at]
            self.devices.append(EmulatedDevice(device, host.namespace, worker_address(at), worker))
        for emulated in self.devices:
            self._throttle(emulated)
        self.write_cluster_file()
        self._note_devices()

    def _start_ticker(self, core: int) -> HostProcess:
        topmost = self._controller.root / "cgroup.procs"
        command = [sys.executable, "-I", "-S", ticker.__file__, str(core), str(os.getpid()), str(topmost)]
        process = HostProcess(f"ticker-{core}", self._names.hub, command, self.folder / f"ticker-{core}.log")
        self._processes.append(process)
        return process

    def _start_worker(self, device: DeviceDescription) -> HostProcess:
        host = self._network.host(device.name)
        words = ["--host", host.address, "--port", str(routing.WORKER_PORT), "--insecure"]
        words += ["--state-dir", str(self.folder / f"{device.name}-state"), "--memory", str(device.memory_bytes or 0)]
        command = [sys.executable, "-m", "flexpie.cli.worker_command", *words, *self._worker_arguments]
        return self.start(device.name, command, f"worker-{device.name}")

    def _throttle(self, device: EmulatedDevice) -> None:
        """Give a worker its quota once it listens: starting Python is no part of what is emulated."""
        device.worker.address(START_SECONDS)
        self.limit_cpu(device.name, device.description.cpu)
        self.put_on_quota(device.name, device.worker)

    def _note_devices(self) -> None:
        with self._noting:
            devices = tuple(
                DeviceRecord(device.name, device.address, device.description.cpu,
                             device.description.bandwidth_bits_per_second, identify(device.pid))
                for device in self.devices
            )  # fmt: skip
            self._note(dataclasses.replace(self._record, ready=True, devices=devices))

    def _note(self, record: RunRecord) -> None:
        self._noted = record
        self._records.write(record)

    @property
    def _record(self) -> RunRecord:
        if self._noted is None:
            raise RuntimeError("a testbed is there only within its `with` block")
        return self._noted

    def _remove(self) -> None:
        with signals.deferred():
            try:
                if self._noted is not None:
                    remove_testbed(self._noted, self._records, self._controller)
            finally:
                for process in self._processes:
                    process.kill()  # they are gone already; this only collects their exit codes
                self._processes.clear()
                self.devices.clear()
                self._guard.uninstall()


def why_it_does_not_fit(description: Description) -> str:
    """What a machine without other testbeds lacks to hold this one; empty when it holds it."""
    controller = find_cpu_controller(Path("/proc/mounts").read_text())
    try:
        check_fits(description, usable_cores(controller, Path("/proc/self/cgroup").read_text()), {})
    except FlexPieError as error:
        return error.message
    return ""


def check_rights() -> None:
    """Raises FlexPieError(INVALID_ARGUMENT) for anybody who cannot emulate devices on this machine."""
    if sys.platform != "linux":
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "The testbed needs Linux.", "Use a virtual machine with Linux.")
    if os.geteuid() != 0:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "The testbed needs root's rights: it makes network namespaces "
                           "and sets CPU quotas.", "Run it with sudo.")  # fmt: skip
