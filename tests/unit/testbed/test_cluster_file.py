"""The cluster file of a testbed, read back by the master's own reader."""

from __future__ import annotations

from pathlib import Path

from flexpie.core.cluster import Cluster, Topology
from flexpie.master.cluster_file import read_cluster_file
from flexpie.testbed.cluster_file import cluster_file_text
from flexpie.testbed.description import Description, DeviceDescription, uniform


def _read(folder: Path, text: str) -> Cluster:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return read_cluster_file(path).cluster


def test_the_master_reads_addresses_speeds_and_bandwidths(tmp_path: Path) -> None:
    cluster = _read(tmp_path, cluster_file_text(uniform(3, (0.2, 0.2, 0.1), 5e8, Topology.STAR)))
    assert [device.address for device in cluster.devices] == ["10.77.0.1:50051", "10.77.0.2:50051", "10.77.0.3:50051"]
    assert [device.speed for device in cluster.devices] == [0.2, 0.2, 0.1]
    assert cluster.link.bandwidth_bytes_per_second == 5e8 / 8
    assert cluster.topology is Topology.STAR
    assert not cluster.links


def test_a_link_has_what_both_of_its_ends_can_do(tmp_path: Path) -> None:
    cluster = _read(tmp_path, cluster_file_text(uniform(3, 0.2, (1e9, 1e9, 1e8))))
    assert cluster.between("d0", "d1").bandwidth_bytes_per_second == 1e9 / 8
    assert cluster.between("d0", "d2").bandwidth_bytes_per_second == 1e8 / 8
    assert cluster.between("d2", "d1").bandwidth_bytes_per_second == 1e8 / 8


def test_names_that_yaml_reads_otherwise_memory_measured_speeds_and_models(tmp_path: Path) -> None:
    description = Description((DeviceDescription("on", 0.2, memory_bytes=1000), DeviceDescription("1.5", 0.2)))
    more = "models:\n  - path: a.onnx\n"
    path = tmp_path / "cluster.yaml"
    path.write_text(cluster_file_text(description, {"on": 0.18, "1.5": 0.21}, more))
    file = read_cluster_file(path)
    assert [(device.name, device.memory_bytes, device.speed) for device in file.cluster.devices] == [
        ("on", 1000, 0.18),
        ("1.5", None, 0.21),
    ]
    assert [model.name for model in file.models] == ["a"]
