"""What a testbed may be, and which numbers a refusal gives."""

from __future__ import annotations

import pytest

from flexpie.core.cluster import Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed.description import Description, DeviceDescription, check_fits, uniform


def _refusal(*devices: DeviceDescription, burst_bytes: int | None = None) -> str:
    with pytest.raises(FlexPieError) as raised:
        Description(devices, burst_bytes=burst_bytes)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    return str(raised.value)


def test_one_number_counts_for_all_devices_and_a_list_for_each() -> None:
    made = uniform(3, (0.2, 0.2, 0.1), 5e8, Topology.RING)
    assert [device.name for device in made.devices] == ["d0", "d1", "d2"]
    assert [device.cpu for device in made.devices] == [0.2, 0.2, 0.1]
    assert {device.bandwidth_bits_per_second for device in made.devices} == {5e8}
    assert made.topology is Topology.RING
    assert made.cpu == pytest.approx(0.5)


def test_a_list_of_another_length_is_refused() -> None:
    with pytest.raises(FlexPieError, match="2 CPU shares for 4 devices"):
        uniform(4, (0.2, 0.1))


def test_the_master_is_as_fast_as_the_fastest_port() -> None:
    assert uniform(2, 0.2, (1e8, 1e9)).fastest_bandwidth == 1e9


def test_what_no_machine_can_emulate_is_refused_by_name() -> None:
    device = DeviceDescription("a", 0.2)
    assert "1 to 64 devices, not 0" in _refusal()
    assert "Two devices are called 'a'" in _refusal(device, device)
    assert "cannot be called 'master'" in _refusal(DeviceDescription("master", 0.2))
    assert "cannot be called 'a/b'" in _refusal(DeviceDescription("a/b", 0.2))
    assert "a: 0 is no CPU share" in _refusal(DeviceDescription("a", 0.0))
    assert "a: nan is no CPU share" in _refusal(DeviceDescription("a", float("nan")))
    assert "a: a bandwidth of 1000 bit/s" in _refusal(DeviceDescription("a", 0.2, 1000.0))
    assert "a burst of 100 bytes" in _refusal(device, burst_bytes=100).lower()


@pytest.mark.parametrize("cores", [1.8, 2.0])
def test_four_fifths_of_a_core_fit_beside_the_reserve(cores: float) -> None:
    check_fits(uniform(4, 0.2), cores, {})


def test_a_testbed_larger_than_the_machine_is_refused_with_the_numbers() -> None:
    with pytest.raises(FlexPieError) as raised:
        check_fits(uniform(4, 0.4), 2.0, {})
    assert raised.value.message == (
        "This machine has 2 cores, and the testbed needs 2.6: 1.6 for 4 devices, 1 for the kernel, the master and the "
        "client."
    )
    assert raised.value.remedy == "Use fewer devices, or give each of the 4 at most 25% of a core."


def test_testbeds_that_run_already_count() -> None:
    with pytest.raises(FlexPieError) as raised:
        check_fits(uniform(2, 0.2), 2.0, {"b2b2": 0.8})
    assert "0.8 for testbed b2b2, which runs already" in raised.value.message
    assert "at most 10% of a core" in raised.value.remedy
    assert "flexpie testbed down" in raised.value.remedy


def test_no_share_is_proposed_where_none_is_left() -> None:
    with pytest.raises(FlexPieError) as raised:
        check_fits(uniform(2, 0.2), 1.0, {})
    assert raised.value.remedy == "Use fewer devices."
