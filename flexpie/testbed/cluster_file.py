"""The cluster file of a testbed, as `flexpie-master` and `flexpie plan` read it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from flexpie.testbed import routing
from flexpie.testbed.description import Description

LATENCY = "50 us"
"""Of a small message between two namespaces; a testbed adds nothing to it."""


def cluster_file_text(description: Description, speeds: Mapping[str, float] | None = None, more: str = "") -> str:
    """YAML of the devices with the testbed's real addresses, speeds and bandwidths.

    Parameters
    ----------
    speeds: of each device by name, relative to a core of the cost model; its CPU share by default.
    more: lines to add, such as ``models:`` with its entries.
    """
    lines = [
        f"bandwidth: {_bandwidth(description.fastest_bandwidth)}",
        f"latency: {LATENCY}",
        f"topology: {description.topology.value}",
        "devices:",
    ]
    for at, device in enumerate(description.devices):
        lines += [
            f"  - name: {device.name!r}",
            f"    address: {worker_address(at)}",
            f"    speed: {speeds[device.name] if speeds else device.cpu:.6g}",
        ]
        if device.memory_bytes is not None:
            lines.append(f"    memory: {device.memory_bytes} B")
    links = list(_slower_links(description))
    return "\n".join([*lines, *(["links:", *links] if links else []), more]).rstrip() + "\n"


def worker_address(index: int) -> str:
    """``host:port`` of a device's worker."""
    return f"{routing.device_address(index)}:{routing.WORKER_PORT}"


def _slower_links(description: Description) -> list[str]:
    """The links that have less than the fastest port, which is the master's: what both ends can do."""
    ports = {device.name: device.bandwidth_bits_per_second for device in description.devices}
    ports["master"] = description.fastest_bandwidth
    lines = []
    for (first, one), (second, other) in itertools.permutations(ports.items(), 2):
        if min(one, other) < description.fastest_bandwidth:
            lines.append(f"  - {{from: {first!r}, to: {second!r}, bandwidth: {_bandwidth(min(one, other))}}}")
    return lines


def _bandwidth(bits_per_second: float) -> str:
    return f"{bits_per_second / 1e3:.3f} kbit/s"
