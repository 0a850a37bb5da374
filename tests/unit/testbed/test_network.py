"""How much a port sends at once."""

from __future__ import annotations

import pytest

from flexpie.testbed.network import burst_bytes, packet_bytes


@pytest.mark.parametrize(
    ("bandwidth", "expected"), [(1e6, 5120), (1e7, 5120), (2e7, 7500), (1e8, 36864), (1e9, 36864), (5e9, 81920)]
)
def test_the_burst_is_a_small_part_of_what_a_port_sends_in_a_few_milliseconds(bandwidth: float, expected: int) -> None:
    assert burst_bytes(bandwidth) == expected
    assert burst_bytes(bandwidth, 262144) == 262144


@pytest.mark.parametrize("burst", [4096, 5120, 36864, 81920, 262144])
def test_the_largest_packet_fits_the_burst_with_the_headers_of_its_segments(burst: int) -> None:
    packet = packet_bytes(burst)
    segments = -(-packet // 1448)
    assert packet + 66 * segments + 14 <= burst
    assert 2 * 1448 < packet <= 65536
