"""Does the testbed do what it says? Real speed of each device, real bandwidth of each link, and noise.

Nothing that is measured on a testbed counts before this has passed: another program on the machine changes every
figure, and no device tells.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flexpie.testbed import namespaces, probe
from flexpie.testbed.description import MASTER
from flexpie.testbed.network import Host
from flexpie.testbed.processes import HostProcess
from flexpie.testbed.testbed import Testbed

SPEED_TOLERANCE = 0.08
"""Relative difference between a device's speed and its CPU share from which on it is a complaint."""
BANDWIDTH_TOLERANCE = 0.12
"""The same for links; TCP and Ethernet headers alone take 5 % of what a port carries."""
OTHERS_TOLERANCE = 0.10
"""Cores that the rest of the machine may use."""
STEAL_TOLERANCE = 0.02
"""Cores that a hypervisor may take."""
SPREAD_TOLERANCE = 1.25
"""p90 / p50 of equal pieces of work on a full core."""

_READY = re.compile("^ready$", re.MULTILINE)
_RESULT = re.compile("^{.*}$", re.MULTILINE)
_START_SECONDS = 60.0
_CHUNK = bytes(1 << 20)


@dataclass(frozen=True)
class DeviceSpeed:
    """What a device can do while all others compute too."""

    name: str
    wanted: float
    """Its CPU share."""
    measured: float
    """Work per second, relative to a full core of this machine."""


@dataclass(frozen=True)
class LinkSpeed:
    """What one TCP connection carries."""

    source: str
    destination: str
    wanted_bits_per_second: float
    measured_bits_per_second: float


@dataclass(frozen=True)
class SelfTest:
    """What was found."""

    devices: tuple[DeviceSpeed, ...]
    links: tuple[LinkSpeed, ...]
    others_cores: float
    """Used by other programs, while the testbed was idle."""
    steal_cores: float
    """Taken by the hypervisor."""
    spread: float
    """p90 / p50 of equal pieces of work on a full core."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """Why figures of this testbed would not count; empty when they do."""
        found = []
        if self.others_cores > OTHERS_TOLERANCE:
            found.append(f"other programs use {self.others_cores:.0%} of a core; end them")
        if self.steal_cores > STEAL_TOLERANCE:
            found.append(f"the hypervisor takes {self.steal_cores:.0%} of a core")
        if self.spread > SPREAD_TOLERANCE:
            found.append(f"equal work on a full core takes {self.spread - 1:.0%} longer at the 90th percentile than at "
                         f"the median")  # fmt: skip
        for device in self.devices:
            if abs(device.measured / device.wanted - 1) > SPEED_TOLERANCE:
                found.append(f"{device.name} computes like {device.measured:.1%} of a core, not {device.wanted:.1%}")
        for link in self.links:
            wanted, measured = link.wanted_bits_per_second, link.measured_bits_per_second
            if abs(measured / wanted - 1) > BANDWIDTH_TOLERANCE:
                found.append(f"{link.source} → {link.destination} carries {measured / 1e6:.0f} Mbit/s, not "
                             f"{wanted / 1e6:.0f}")  # fmt: skip
        return tuple(found)

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to complain about."""
        return not self.complaints


def run_self_test(bed: Testbed, seconds: float = 1.0) -> SelfTest:
    """Measure an idle testbed.

    Parameters
    ----------
    seconds: how long everything is measured together: silence, a full core, all devices at once. Links take a fifth of
        it each.
    """
    steal, others = _measure_others(bed, seconds)
    full, spread = _measure_core(bed, seconds)
    devices = _measure_devices(bed, seconds, full)
    links = tuple(_measure_link(source, destination, seconds / 5) for source, destination in _pairs(bed))
    return SelfTest(devices, links, others, steal, spread)


# -------------------------------------------------------------------------------------------------- speed


def _measure_core(bed: Testbed, seconds: float) -> tuple[float, float]:
    """Multiplications per second of a core that does nothing else, and their spread."""
    process = _start_probe(bed, MASTER, seconds)
    process.signal(signal.SIGUSR1)
    found = _result(process, seconds)
    return found["multiplications"] / found["cpu_seconds"], found["spread"]


def _measure_devices(bed: Testbed, seconds: float, full: float) -> tuple[DeviceSpeed, ...]:
    probes = [_start_probe(bed, device.name, seconds) for device in bed.devices]
    for device, process in zip(bed.devices, probes, strict=True):
        bed.put_on_quota(device.name, process)
    for process in probes:
        process.signal(signal.SIGUSR1)
    speeds = []
    for device, process in zip(bed.devices, probes, strict=True):
        found = _result(process, seconds)
        measured = found["multiplications"] / found["clock_seconds"] / full
        speeds.append(DeviceSpeed(device.name, device.description.cpu, measured))
    return tuple(speeds)


def _start_probe(bed: Testbed, host: str, seconds: float) -> HostProcess:
    process = bed.start(host, [sys.executable, "-I", probe.__file__, str(seconds)], f"probe-{host}")
    process.wait_for(_READY, _START_SECONDS)
    return process


def _result(process: HostProcess, seconds: float) -> dict[str, float]:
    found: dict[str, float] = json.loads(process.wait_for(_RESULT, _START_SECONDS + seconds)[0])
    process.wait(_START_SECONDS)
    return found


# -------------------------------------------------------------------------------------------------- links


def _pairs(bed: Testbed) -> list[tuple[Host, Host]]:
    """Every device to the next one, and the master to every device."""
    devices, master = bed.hosts[:-1], bed.hosts[-1]
    around = [(host, devices[(at + 1) % len(devices)]) for at, host in enumerate(devices)]
    return [*(around if len(devices) > 1 else []), *((master, host) for host in devices)]


def _measure_link(source: Host, destination: Host, seconds: float) -> LinkSpeed:
    wanted = min(source.bandwidth_bits_per_second, destination.bandwidth_bits_per_second)
    nbytes = max(int(wanted / 8 * seconds), 256 * 1024)
    with namespaces.call_in(destination.namespace, lambda: socket.create_server((destination.address, 0))) as server:
        address = server.getsockname()
        with namespaces.call_in(source.namespace, lambda: socket.create_connection(address, _START_SECONDS)) as sender:
            receiver, _ = server.accept()
            with receiver, ThreadPoolExecutor(1) as thread:
                receiver.settimeout(_START_SECONDS)
                start = time.perf_counter()
                sending = thread.submit(_send, sender, nbytes)
                _receive(receiver, nbytes)
                taken = time.perf_counter() - start
                sending.result()
    return LinkSpeed(source.name, destination.name, wanted, nbytes * 8 / taken)


def _send(to: socket.socket, nbytes: int) -> None:
    chunk = memoryview(_CHUNK)
    while nbytes:
        nbytes -= to.send(chunk[: min(nbytes, len(chunk))])


def _receive(source: socket.socket, nbytes: int) -> None:
    buffer = bytearray(len(_CHUNK))
    while nbytes:
        received = source.recv_into(buffer)
        if not received:
            raise ConnectionError("the connection ended early")
        nbytes -= received


# -------------------------------------------------------------------------------------------------- noise


def _measure_others(bed: Testbed, seconds: float) -> tuple[float, float]:
    """Cores that the hypervisor takes, and cores that other programs use."""
    before, own_before = _machine_seconds(), _own_seconds(bed.processes)
    time.sleep(seconds)
    after, own_after = _machine_seconds(), _own_seconds(bed.processes)
    steal = (after[1] - before[1]) / seconds
    return steal, max(0.0, (after[0] - before[0] - (own_after - own_before)) / seconds)


def _machine_seconds() -> tuple[float, float]:
    """Seconds of all cores so far: busy, and taken by the hypervisor."""
    first = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _, _, interrupts, soft, steal = (int(field) for field in first.split()[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft) / ticks, steal / ticks


def _own_seconds(processes: Sequence[HostProcess]) -> float:
    """Processor time of this process and of the testbed's so far."""
    return time.process_time() + sum(process.cpu_seconds for process in processes)
