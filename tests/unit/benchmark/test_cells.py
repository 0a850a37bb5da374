"""Which cells there are, and which come first."""

from __future__ import annotations

import itertools

import pytest

from flexpie.benchmark.cells import KINDS, Cell, Ground, all_cells, by_information, canonical, shares
from flexpie.core.cluster import Topology

MODELS = ("resnet18", "bert_base")
CPUS = tuple(shares(count, 0.2, kind) for kind in KINDS for count in (2, 3, 4))
EVERYTHING = all_cells(MODELS, CPUS, (5e9, 5e8, 1e9), tuple(Topology), (1, 8))


def test_unequal_devices_are_half_as_fast_from_the_middle_on() -> None:
    assert shares(4, 0.2, "equal") == (0.2,) * 4
    assert shares(4, 0.2, "unequal") == (0.2, 0.2, 0.1, 0.1)
    assert shares(3, 0.2, "unequal") == (0.2, 0.2, 0.1)


def test_every_combination_is_there_once_but_for_networks_that_are_the_same() -> None:
    assert len(set(EVERYTHING)) == len(EVERYTHING)
    networks = {2: 1, 3: 2, 4: 3}  # a ring of three is a mesh, and whatever has two devices
    assert len(EVERYTHING) == len(MODELS) * 2 * 3 * len(KINDS) * sum(networks.values())
    assert canonical(Topology.RING, 3) is Topology.MESH
    assert canonical(Topology.RING, 4) is Topology.RING


def test_the_cell_of_the_projects_figures_comes_first_and_what_differs_most_from_it_last() -> None:
    assert [cell.model for cell in EVERYTHING[:2]] == list(MODELS)
    assert EVERYTHING[0] == Cell("resnet18", Ground((0.2,) * 4, 1e9, Topology.MESH))
    assert EVERYTHING[4].ground == Ground((0.2,) * 4, 5e8, Topology.MESH)
    last = EVERYTHING[-1].ground
    assert (last.equal, last.topology, last.bandwidth_bits_per_second) == (False, Topology.STAR, 5e9)


def test_cells_on_the_same_ground_stay_together() -> None:
    grounds = [ground for ground, _ in itertools.groupby(EVERYTHING, lambda cell: cell.ground)]
    assert len(grounds) == len(set(grounds))
    assert by_information(reversed(EVERYTHING))[0].ground == EVERYTHING[0].ground


@pytest.mark.parametrize(
    ("ground", "text"),
    [
        (Ground((0.2,) * 2, 5e8), "2 devices (20% each), 500 Mbit/s, mesh"),
        (Ground((0.2, 0.1), 5e9, Topology.STAR), "2 devices (20%, 10%), 5 Gbit/s, star"),
    ],
)
def test_a_ground_says_what_it_is(ground: Ground, text: str) -> None:
    assert str(ground) == text
    assert [device.cpu for device in ground.description.devices] == list(ground.cpu)
