"""What a testbed is to be: its devices, their links, and whether this machine can hold them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flexpie.core.cluster import Topology
from flexpie.core.errors import ErrorCode, FlexPieError

RESERVED_CORES = 1.0
"""For the kernel's network, the tickers, the master and the client; with less one measures the machine."""
MOST_DEVICES = 64
LEAST_CPU = 0.01
"""Of a core: the kernel's smallest quota is 1 ms, its longest sensible period 100 ms."""
LEAST_BANDWIDTH = 64e3
MOST_BANDWIDTH = 32e9
"""Bits per second; more does not fit the 32 bits of the kernel's rate."""
MASTER = "master"
"""Name of the host that runs the master."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class DeviceDescription:
    """One emulated device."""

    name: str
    cpu: float
    """Cores that it may use: 0.2 is a fifth of one."""
    bandwidth_bits_per_second: float = 1e9
    """Of its port, in each direction."""
    memory_bytes: int | None = None
    """Memory budget that its worker and the cluster file are told; None is no limit."""


@dataclass(frozen=True)
class Description:
    """The devices of a testbed and how messages travel between them.

    Every device has one port. On a ring and on a star it is reached over that port too, through the devices between;
    this is what `flexpie.core.routes` assumes. The master reaches every device directly.
    """

    devices: tuple[DeviceDescription, ...]
    topology: Topology = Topology.MESH
    burst_bytes: int | None = None
    """What a port that was idle sends at once, before its bandwidth counts; None chooses by bandwidth."""

    def __post_init__(self) -> None:
        """Raises FlexPieError(INVALID_ARGUMENT) for values that no machine can emulate."""
        if not 1 <= len(self.devices) <= MOST_DEVICES:
            raise _invalid(f"A testbed has 1 to {MOST_DEVICES} devices, not {len(self.devices)}.")
        names = [device.name for device in self.devices]
        for device in self.devices:
            _check(device)
            if names.count(device.name) > 1:
                raise _invalid(f"Two devices are called {device.name!r}.", "Give every device a name of its own.")
        if self.burst_bytes is not None and self.burst_bytes < 4096:
            raise _invalid(f"A burst of {self.burst_bytes} bytes is too small.", "Give at least 4096 bytes.")

    @property
    def cpu(self) -> float:
        """Cores of all devices together."""
        return math.fsum(device.cpu for device in self.devices)

    @property
    def fastest_bandwidth(self) -> float:
        """Bits per second of the fastest port; the master's has as many."""
        return max(device.bandwidth_bits_per_second for device in self.devices)


def uniform(
    count: int,
    cpu: float | Sequence[float] = 0.2,
    bandwidth_bits_per_second: float | Sequence[float] = 1e9,
    topology: Topology = Topology.MESH,
) -> Description:
    """Devices called d0, d1 ...; one number counts for all of them, a sequence has one for each.

    Raises FlexPieError(INVALID_ARGUMENT) when a sequence has another length.
    """
    cpus = _each(cpu, count, "CPU shares")
    bandwidths = _each(bandwidth_bits_per_second, count, "bandwidths")
    pairs = zip(cpus, bandwidths, strict=True)
    return Description(tuple(DeviceDescription(f"d{at}", *pair) for at, pair in enumerate(pairs)), topology)


def check_fits(description: Description, cores: float, taken: dict[str, float]) -> None:
    """Refuse a testbed that this machine cannot hold; `taken` has the cores of each testbed that runs already.

    Raises FlexPieError(INVALID_ARGUMENT) with the numbers.
    """
    others = math.fsum(taken.values())
    if description.cpu + RESERVED_CORES + others <= cores + 1e-9:
        return
    beside = f", and {others:g} for testbed {', '.join(sorted(taken))}, which runs already" if taken else ""
    left = cores - RESERVED_CORES - others
    share = math.floor(100 * max(0.0, left) / len(description.devices) + 1e-9)
    most = "" if share < 1 else f", or give each of the {len(description.devices)} at most {share}% of a core"
    raise _invalid(
        f"This machine has {cores:g} cores, and the testbed needs {description.cpu + RESERVED_CORES + others:g}: "
        f"{description.cpu:g} for {len(description.devices)} devices, {RESERVED_CORES:g} for the kernel, the master "
        f"and the client{beside}.",
        f"Use fewer devices{most}{'; or end the other testbed (flexpie testbed down)' if taken else ''}.",
    )


def _each(value: float | Sequence[float], count: int, what: str) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value] * count
    if len(values) != count:
        raise _invalid(f"{len(values)} {what} for {count} devices.", "Give one for all, or one for each.")
    return values


def _check(device: DeviceDescription) -> None:
    if not _NAME.fullmatch(device.name) or device.name == MASTER:
        raise _invalid(f"A device cannot be called {device.name!r}.",
                       f"Use up to 32 letters, digits and . _ -, and not {MASTER!r}.")  # fmt: skip
    if not LEAST_CPU <= device.cpu <= 1024:
        raise _invalid(f"{device.name}: {device.cpu:g} is no CPU share.", f"Give at least {LEAST_CPU:g} of a core.")
    bandwidth = device.bandwidth_bits_per_second
    if not LEAST_BANDWIDTH <= bandwidth <= MOST_BANDWIDTH:
        raise _invalid(f"{device.name}: a bandwidth of {bandwidth:g} bit/s cannot be emulated.",
                       "Give 64 kbit/s to 32 Gbit/s.")  # fmt: skip


def _invalid(message: str, remedy: str = "") -> FlexPieError:
    return FlexPieError(ErrorCode.INVALID_ARGUMENT, message, remedy)
