from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flexpie.core.cluster import Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.rates import REFERENCE_RATES
from flexpie.master.calibration_file import (
    Calibration,
    DeviceCalibration,
    calibration_path,
    read_calibration,
    write_calibration,
)
from flexpie.master.cluster_file import read_cluster_file

CLUSTER = """\
bandwidth: 1 Gbit/s
devices:
  - {name: a, address: "10.0.0.1:50051", speed: 3}
  - {name: b, address: "10.0.0.2:50051"}
links:
  - {from: a, to: b, bandwidth: 100 Mbit/s}
"""
FAST = REFERENCE_RATES.scaled(0.5)
SLOW = REFERENCE_RATES.scaled(0.25)
CALIBRATION = Calibration(
    "2026-01-02T03:04:05+00:00",
    (DeviceCalibration("a", "10.0.0.1:50051", 1, FAST), DeviceCalibration("b", "10.0.0.2:50051", 2, SLOW)),
    {("a", "b"): Link(12e6, 2e-4), ("b", "a"): Link(11e6, 3e-4)},
)


def _files(folder: Path, calibration: Calibration = CALIBRATION) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(CLUSTER)
    write_calibration(calibration_path(path), calibration)
    return path


def _refused(path: Path) -> str:
    with pytest.raises(FlexPieError) as caught:
        read_cluster_file(path)
    assert caught.value.code is ErrorCode.INVALID_TRACES
    assert "flexpie calibrate" in caught.value.remedy
    return caught.value.message


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_it_lies_beside_the_cluster_file() -> None:
    assert calibration_path(Path("/etc/flexpie/pis.yaml")) == Path("/etc/flexpie/pis.calibration.yaml")


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    write_calibration(path, CALIBRATION)
    again = read_calibration(path)
    assert (again.measured_at, again.devices[1].threads) == (CALIBRATION.measured_at, 2)
    for found, written in zip(again.devices, CALIBRATION.devices, strict=True):
        assert dataclasses.astuple(found.rates) == pytest.approx(dataclasses.astuple(written.rates), rel=1e-3)
    for ends, link in CALIBRATION.links.items():
        assert dataclasses.astuple(again.links[ends]) == pytest.approx(dataclasses.astuple(link), rel=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]


def test_the_cluster_is_read_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cluster = read_cluster_file(_files(tmp_path)).cluster
    first, second = cluster.devices
    assert first.rates.matrix_flops_per_second == pytest.approx(FAST.matrix_flops_per_second, rel=1e-3)
    assert first.speed == pytest.approx(0.5, rel=1e-3)
    assert second.rates.send_seconds == pytest.approx(SLOW.send_seconds, rel=1e-3)
    assert cluster.between("a", "b").bandwidth_bytes_per_second == pytest.approx(12e6)
    assert cluster.link.bandwidth_bytes_per_second == 125e6
    assert caplog.messages == []


def test_it_is_left_away_where_it_is_not_wanted(tmp_path: Path) -> None:
    path = _files(tmp_path)
    calibration_path(path).write_text("broken")
    cluster = read_cluster_file(path, with_calibration=False).cluster
    assert cluster.devices[0].speed == 3
    assert cluster.devices[0].measured is None


def test_what_was_measured_of_other_devices_is_not_used_but_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = dataclasses.replace(CALIBRATION.devices[0], address="10.0.0.9:50051")
    cluster = read_cluster_file(_files(tmp_path, dataclasses.replace(CALIBRATION, devices=(moved,)))).cluster
    assert [device.measured for device in cluster.devices] == [None, None]
    assert cluster.between("a", "b").bandwidth_bytes_per_second == 12.5e6
    (warning,) = caplog.messages
    assert "a had the address 10.0.0.9:50051, b was not measured" in warning
    assert "Run `flexpie calibrate` again" in warning


def test_a_device_that_left_does_not_make_it_stale(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = DeviceCalibration("gone", "10.0.0.3:50051", 1, SLOW)
    file = read_cluster_file(_files(tmp_path, dataclasses.replace(CALIBRATION, devices=(*CALIBRATION.devices, gone))))
    assert file.cluster.devices[0].measured is not None
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 7", "has version 7; this FlexPie reads version 1"),
        ("version: 1", "other: 1", "has version None"),
        ("node_seconds:", "nodes:", "devices[0].rates: node_seconds is missing"),
        ("node_seconds: 8", "node_seconds: nan #", "devices[0].rates.node_seconds: "),
        ("node_seconds: 8", "node_seconds: -8", "found '-8"),
        ("bandwidth: 96", "bandwidth: fast #", "links[0].bandwidth"),
        ("threads: 1", "threads: many", "devices[0].threads: "),
        ("links:", "lanks:", "lanks"),
        ("devices:", "devices: [", "expected YAML"),
    ],
)
def test_a_broken_one_is_refused_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = _files(tmp_path)
    _change(calibration_path(path), old, new)
    message = _refused(path)
    assert expected in message
    assert str(calibration_path(path)) in message
