"""Devices and links."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from flexpie.core.rates import REFERENCE_RATES, DeviceRates

MASTER_NAME = ""
"""Stands for the master among the ends of links; no device has this name."""


class Topology(enum.Enum):
    """How messages travel between devices."""

    MESH = "mesh"
    RING = "ring"
    STAR = "star"


@dataclass(frozen=True, slots=True)
class Link:
    """A directed connection, or one device's port to the network."""

    bandwidth_bytes_per_second: float
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class Device:
    """A machine that runs a worker."""

    name: str
    address: str
    """``host:port`` of its worker."""
    speed: float = 1.0
    """Computing speed relative to the reference core of the cost model."""
    memory_bytes: int | None = None
    """What weights and activations may take; None is no limit."""
    measured: DeviceRates | None = None
    """What calibration measured; None for a device that was not calibrated."""

    @property
    def rates(self) -> DeviceRates:
        """What calibration measured, or else the reference core's rates times `speed`."""
        return REFERENCE_RATES.scaled(self.speed) if self.measured is None else self.measured


@dataclass(frozen=True)
class Cluster:
    """The devices of one FlexPie system and the network between them."""

    devices: tuple[Device, ...]
    link: Link
    """What every pair of devices has, unless `links` says otherwise."""
    topology: Topology = Topology.MESH
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    """Exceptions, by names of source and destination; one of them may be `MASTER_NAME`."""
    center: str | None = None
    """Name of the device in the middle of a star; the first one where there is none of that name."""
    missing: frozenset[tuple[str, str]] = frozenset()
    """Names of source and destination of the links that do not exist, though the topology has them; messages are
    relayed on another way (`flexpie.core.routes`)."""

    def between(self, source: str, destination: str) -> Link:
        """The link from one device to another, or between a device and the master, by their names."""
        return self.links.get((source, destination), self.link)
