"""What is measured: cells, each one model on one ground, and the strategies that are compared in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from flexpie import testbed
from flexpie.core.cluster import Topology
from flexpie.core.strategy import AUTO, BASELINES

ALONE = "onnxruntime"
"""Strategy: the model in onnxruntime alone on the fastest device, its input in place, no FlexPie."""
OURS = AUTO
OURS_FLOAT16 = f"{AUTO}-float16"
"""Strategy: our plan with float16 boundaries. Its answers are rounded, so it is compared where it is asked for only."""
STRATEGIES = (OURS, ALONE, *BASELINES)

EQUAL, UNEQUAL = "equal", "unequal"
KINDS = (EQUAL, UNEQUAL)
"""Of devices: all alike, or the second half of them with half the share."""


@dataclass(frozen=True)
class Ground:
    """The devices and links of a testbed; cells on the same ground share one."""

    cpu: tuple[float, ...]
    """Share of a core of each device."""
    bandwidth_bits_per_second: float
    """Of every port."""
    topology: Topology = Topology.MESH

    @cached_property
    def description(self) -> testbed.Description:
        """Of the testbed."""
        return testbed.uniform(len(self.cpu), self.cpu, self.bandwidth_bits_per_second, self.topology)

    @property
    def equal(self) -> bool:
        """Whether all devices are alike."""
        return len(set(self.cpu)) == 1

    @property
    def fastest(self) -> int:
        """Index of the fastest device, the first of several."""
        return self.cpu.index(max(self.cpu))

    def __str__(self) -> str:
        shares = f"{self.cpu[0]:.0%} each" if self.equal else ", ".join(f"{share:.0%}" for share in self.cpu)
        rate = bandwidth_label(self.bandwidth_bits_per_second)
        return f"{len(self.cpu)} devices ({shares}), {rate}bit/s, {self.topology.value}"


@dataclass(frozen=True)
class Cell:
    """One model on one ground."""

    model: str
    """Name of an example model."""
    ground: Ground
    in_flight: int = 1
    """Requests under way at once."""

    def __str__(self) -> str:
        flight = f", {self.in_flight} in flight" if self.in_flight > 1 else ""
        return f"{self.model}, {self.ground}{flight}"


def bandwidth_label(bits_per_second: float) -> str:
    """``1 G``, ``500 M``."""
    unit, factor = ("G", 1e9) if bits_per_second >= 1e9 else ("M", 1e6)
    return f"{bits_per_second / factor:g} {unit}"


def shares(count: int, share: float, kind: str) -> tuple[float, ...]:
    """CPU shares of `count` devices: all of them `share`, or the second half of them half of it."""
    slower = count // 2 if kind == UNEQUAL else 0
    return (share,) * (count - slower) + (share / 2,) * slower


def all_cells(
    models: Sequence[str],
    cpus: Iterable[tuple[float, ...]],
    bandwidths: Sequence[float],
    topologies: Sequence[Topology],
    in_flight: Sequence[int] = (1,),
) -> list[Cell]:
    """Every combination, the most informative first (`by_information`); networks that are the same, once."""
    grounds = dict.fromkeys(
        Ground(cpu, rate, canonical(topology, len(cpu)))
        for cpu, rate, topology in itertools.product(cpus, bandwidths, topologies)
    )
    return by_information(Cell(model, ground, flight) for ground in grounds for flight in in_flight for model in models)


def canonical(topology: Topology, devices: int) -> Topology:
    """The same network by its simplest name: a ring of three devices, and whatever has two, is a mesh."""
    least = {Topology.MESH: 1, Topology.RING: 4, Topology.STAR: 3}[topology]
    return topology if devices >= least else Topology.MESH


def by_information(cells: Iterable[Cell]) -> list[Cell]:
    """The same cells in the order in which they are best measured when time may run out.

    First what the project's figures are about (four equal devices, 1 Gbit/s, mesh), then what differs from that in
    one respect, then in two ... Cells on the same ground stay together, since they share a testbed. Models keep
    their order.
    """
    return sorted(cells, key=lambda cell: (_distance(cell.ground), cell.in_flight))


def _distance(ground: Ground) -> tuple[float, ...]:
    respects = (
        {1e9: 0.0, 5e8: 0.5}.get(ground.bandwidth_bits_per_second, 2.0),
        0.0 if ground.equal else 1.0,
        {Topology.MESH: 0.0, Topology.RING: 2.0, Topology.STAR: 2.1}[ground.topology],
        0.0 if len(ground.cpu) == 4 else 2.0,
    )
    different = sum(respect > 0 for respect in respects)
    return (different, sum(respects), *respects, len(ground.cpu), ground.bandwidth_bits_per_second, *ground.cpu)
