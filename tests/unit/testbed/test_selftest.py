"""When a testbed's figures do not count."""

from __future__ import annotations

from dataclasses import replace

from flexpie.testbed.selftest import DeviceSpeed, LinkSpeed, SelfTest

GOOD = SelfTest(
    devices=(DeviceSpeed("d0", 0.2, 0.199),),
    links=(LinkSpeed("d0", "d1", 1e9, 9.47e8),),
    others_cores=0.02,
    steal_cores=0.0,
    spread=1.05,
)


def test_a_testbed_that_does_what_it_says_is_quiet() -> None:
    assert GOOD.complaints == ()
    assert GOOD.quiet


def test_every_reason_is_named_with_its_number() -> None:
    bad = replace(
        GOOD,
        devices=(DeviceSpeed("d0", 0.2, 0.15), DeviceSpeed("d1", 0.2, 0.25)),
        links=(LinkSpeed("d0", "d1", 1e9, 6e8),),
        others_cores=0.43,
        steal_cores=0.05,
        spread=1.4,
    )
    assert not bad.quiet
    assert list(bad.complaints) == [
        "other programs use 43% of a core; end them",
        "the hypervisor takes 5% of a core",
        "equal work on a full core takes 40% longer at the 90th percentile than at the median",
        "d0 computes like 15.0% of a core, not 20.0%",
        "d1 computes like 25.0% of a core, not 20.0%",
        "d0 → d1 carries 600 Mbit/s, not 1000",
    ]
