"""Shares and bandwidths on the command line."""

from __future__ import annotations

import click
import pytest

from flexpie.cli.testbed_options import Bandwidths, CpuShares, bandwidth_text


@pytest.mark.parametrize(
    ("text", "expected"), [("20%", [0.2]), ("0.2", [0.2]), ("150%", [1.5]), ("20%, 20%,7.5 %", [0.2, 0.2, 0.075])]
)
def test_shares(text: str, expected: list[float]) -> None:
    assert CpuShares().convert(text, None, None) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1gbit", [1e9]), ("500 Mbit/s", [5e8]), ("1gbit,64kbps,100bit", [1e9, None, 100.0]), ("2.5Gbit", [2.5e9])],
)
def test_bandwidths(text: str, expected: list[float | None]) -> None:
    if None in expected:  # kbps may mean bytes: no guess
        with pytest.raises(click.BadParameter, match="'64kbps' is no bandwidth"):
            Bandwidths().convert(text, None, None)
    else:
        assert Bandwidths().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["", "20%,", "-1", "1e3", "a", "20%%"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no share of a core"):
        CpuShares().convert(text, None, None)


@pytest.mark.parametrize(
    ("rate", "text"), [(1e9, "1 Gbit/s"), (5e8, "500 Mbit/s"), (2.5e9, "2.5 Gbit/s"), (64e3, "64 kbit/s")]
)
def test_a_bandwidth_as_text(rate: float, text: str) -> None:
    assert bandwidth_text(rate) == text
