"""Hosts reach each other as described, and not through a fault."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import partial

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from flexpie import testbed
from flexpie.core.cluster import Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import namespaces
from flexpie.testbed.selftest import run_self_test
from tests.testbed.conftest import MakeTestbed
from tests.testbed.hosts import arrives, is_lost, remains

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def bed(make: MakeTestbed) -> Iterator[testbed.Testbed]:
    """Three devices, the last one slower."""
    with make(testbed.uniform(3, (0.1, 0.1, 0.05), (1e9, 1e9, 2e7))) as running:
        yield running


@pytest.fixture(autouse=True)
def _repaired(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "bed" in request.fixturenames:
        request.getfixturevalue("bed").faults.restore()


def test_every_host_reaches_every_other(bed: testbed.Testbed) -> None:
    assert all(arrives(bed, first.name, second.name) for first, second in itertools.permutations(bed.hosts, 2))


def test_devices_and_links_are_as_slow_as_described(bed: testbed.Testbed) -> None:
    """Only what a busy machine cannot break: nothing is faster than it may be."""
    found = run_self_test(bed, seconds=0.3)
    assert [device.name for device in found.devices] == ["d0", "d1", "d2"]
    assert all(0 < device.measured < 1.4 * device.wanted for device in found.devices)
    assert {(link.source, link.destination) for link in found.links} == {
        ("d0", "d1"), ("d1", "d2"), ("d2", "d0"), ("master", "d0"), ("master", "d1"), ("master", "d2"),
    }  # fmt: skip
    for link in found.links:
        assert link.wanted_bits_per_second == (2e7 if "d2" in (link.source, link.destination) else 1e9)
        assert 0 < link.measured_bits_per_second < 1.15 * link.wanted_bits_per_second


def test_an_unplugged_device_is_reached_by_nobody_until_it_is_plugged_in(bed: testbed.Testbed) -> None:
    bed.faults.unplug("d1")
    assert is_lost(bed, "d0", "d1")
    assert is_lost(bed, "d1", "d2")
    assert is_lost(bed, "master", "d1")
    assert arrives(bed, "d0", "d2")
    bed.faults.restore()
    assert arrives(bed, "d0", "d1")
    assert arrives(bed, "d1", "master")


def test_a_cut_ends_both_directions_of_one_link(bed: testbed.Testbed) -> None:
    bed.faults.cut("d0", "d1")
    assert is_lost(bed, "d0", "d1")
    assert is_lost(bed, "d1", "d0")
    assert arrives(bed, "d0", "d2")
    assert arrives(bed, "master", "d1")
    bed.faults.restore()
    assert arrives(bed, "d0", "d1")
    assert arrives(bed, "d1", "d0")


def test_a_one_way_cut_leaves_the_other_direction(bed: testbed.Testbed) -> None:
    bed.faults.cut_one_way("master", "d0")
    assert is_lost(bed, "master", "d0")
    assert arrives(bed, "d0", "master")
    bed.faults.restore()
    assert arrives(bed, "master", "d0")


def test_a_slow_link_has_its_bandwidth_until_it_is_restored(bed: testbed.Testbed) -> None:
    def rates() -> set[int]:
        ends = [(bed.hosts[0].namespace, "eth0"), (bed._names.hub, "0")]
        return {namespaces.call_in(namespace, partial(_rate, name)) for namespace, name in ends}

    assert rates() == {125_000_000}
    bed.faults.slow("d0", 1e6)
    assert rates() == {125_000}
    bed.faults.restore()
    assert rates() == {125_000_000}


def test_one_fault_is_repaired_and_the_others_stay(bed: testbed.Testbed) -> None:
    bed.faults.unplug("d2")
    bed.faults.cut("d0", "d1")
    bed.faults.mend("d1", "d0")
    assert arrives(bed, "d0", "d1")
    assert arrives(bed, "d1", "d0")
    assert is_lost(bed, "d0", "d2")
    bed.faults.cut_one_way("d1", "master")
    bed.faults.plug("d2")
    assert arrives(bed, "d0", "d2")
    assert is_lost(bed, "d1", "master")
    bed.faults.slow("d0", 1e6)
    bed.faults.quicken("d0")
    assert namespaces.call_in(bed.hosts[0].namespace, partial(_rate, "eth0")) == 125_000_000
    assert is_lost(bed, "d1", "master")


def _rate(interface: str) -> int:
    """Bytes per second of an interface's token bucket."""
    with IPRoute() as kernel:
        index = kernel.link_lookup(ifname=interface)[0]
        options = [queue.get("TCA_OPTIONS") for queue in kernel.get_qdiscs(index) if queue.get("TCA_KIND") == "tbf"]
        return int(options[0].get_attr("TCA_TBF_PARMS")["rate"])


def test_hosts_and_links_that_there_are_not_are_refused(bed: testbed.Testbed) -> None:
    faults = bed.faults
    for fault, host in ((faults.unplug, "d7"), (faults.kill, "master"), (faults.stop, "d3")):
        with pytest.raises(FlexPieError, match="has no") as raised:
            fault(host)
        assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    with pytest.raises(FlexPieError, match="No link goes from d0 to d0"):
        bed.faults.cut("d0", "d0")


def test_two_testbeds_do_not_see_each_other(bed: testbed.Testbed, make: MakeTestbed) -> None:
    with make(testbed.uniform(2, 0.05)) as other:
        assert other.run_id != bed.run_id
        other.faults.unplug("d0")
        assert arrives(bed, "d1", "d0")
        assert is_lost(other, "d1", "d0")
        bed.faults.cut("d0", "d1")
        other.faults.restore()
        assert arrives(other, "d0", "d1")
    assert not remains(other.run_id)
    assert arrives(bed, "d0", "d2")


def test_on_a_star_everything_passes_the_first_device(make: MakeTestbed) -> None:
    with make(testbed.uniform(3, 0.05, topology=Topology.STAR)) as star:
        assert arrives(star, "d1", "d2")
        with pytest.raises(FlexPieError, match="No link goes from d1 to d2 on a star"):
            star.faults.cut("d1", "d2")
        star.faults.unplug("d0")
        assert is_lost(star, "d1", "d2")
        assert arrives(star, "master", "d1")


def test_on_a_ring_messages_pass_the_devices_between(make: MakeTestbed) -> None:
    with make(testbed.uniform(4, 0.05, topology=Topology.RING)) as ring:
        assert arrives(ring, "d0", "d2")
        assert arrives(ring, "d3", "d1")
        ring.faults.cut_one_way("d1", "d2")
        assert is_lost(ring, "d0", "d2")
        assert arrives(ring, "d2", "d0")


def test_a_kernel_without_tbf_is_refused_and_nothing_is_left(
    make: MakeTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise NetlinkError(2, "No such file or directory")

    monkeypatch.setattr(IPRoute, "tc", missing, raising=False)
    bed = make(testbed.uniform(2, 0.05))
    with pytest.raises(FlexPieError, match="sch_tbf"):
        bed.__enter__()
    assert not remains(bed.run_id)


def test_without_root_it_says_so(make: MakeTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FlexPieError, match=r"needs root's rights.*sudo"), make(testbed.uniform(2, 0.05)):
        pass
