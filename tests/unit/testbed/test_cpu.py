"""CPU quotas, against folders that look like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexpie.core.errors import FlexPieError
from flexpie.testbed.cpu import CpuController, find_cpu_controller, quota, usable_cores

RUN = "flexpie-b2c3"


@pytest.fixture
def version_1(tmp_path: Path) -> CpuController:
    return CpuController(1, tmp_path)


@pytest.fixture
def version_2(tmp_path: Path) -> CpuController:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "cgroup.subtree_control").write_text("")
    (tmp_path / RUN).rename(tmp_path / "prepared")
    return CpuController(2, tmp_path)


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [(0.2, (1000, 5000)), (0.25, (1250, 5000)), (1.0, (5000, 5000)), (1.5, (7500, 5000)), (0.1, (1000, 10000)),
     (0.01, (1000, 100000))],
)  # fmt: skip
def test_the_period_is_5_ms_unless_the_quota_were_below_1(cpu: float, expected: tuple[int, int]) -> None:
    assert quota(cpu) == expected
    assert expected[0] / expected[1] == pytest.approx(cpu)


def test_version_1_gets_quota_and_period(version_1: CpuController, tmp_path: Path) -> None:
    version_1.create(RUN)
    version_1.limit(RUN, "d0", 0.1)
    group = tmp_path / RUN / "d0"
    assert (group / "cpu.cfs_quota_us").read_text() == "1000"
    assert (group / "cpu.cfs_period_us").read_text() == "10000"
    version_1.limit(RUN, "d0", None)
    assert (group / "cpu.cfs_quota_us").read_text() == "-1"
    version_1.add(RUN, "d0", 42)
    assert (group / "cgroup.procs").read_text() == "42"


def test_devices_come_before_the_rest_of_the_machine(version_1: CpuController, tmp_path: Path) -> None:
    version_1.create(RUN)
    assert (tmp_path / RUN / "cpu.shares").read_text() == "262144"


def test_version_2_gets_both_in_one_line(version_2: CpuController, tmp_path: Path) -> None:
    (tmp_path / "prepared").rename(tmp_path / RUN)  # the kernel fills a new group's folder by itself
    version_2.limit(RUN, "d0", 0.2)
    assert (tmp_path / RUN / "d0" / "cpu.max").read_text() == "1000 5000"
    version_2.limit(RUN, "d0", None)
    assert (tmp_path / RUN / "d0" / "cpu.max").read_text() == "max 5000"


def test_version_2_hands_the_controller_down(
    version_2: CpuController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", lambda path: (tmp_path / "prepared").rename(path))
    version_2.create(RUN)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    assert (tmp_path / RUN / "cgroup.subtree_control").read_text() == "+cpu"
    assert (tmp_path / RUN / "cpu.weight").read_text() == "10000"


def test_a_controller_that_may_not_be_used_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match=r"cannot be made here.*--privileged"):
        CpuController(1, tmp_path / "read-only").create(RUN)


def test_removing_takes_what_is_there(tmp_path: Path) -> None:
    controller = CpuController(1, tmp_path)
    (tmp_path / RUN / "d0").mkdir(parents=True)
    controller.remove(RUN)
    assert not (tmp_path / RUN).exists()
    controller.remove(RUN)


# -------------------------------------------------------------------------------------------- detection


def test_version_1_is_found_by_its_mount_option(tmp_path: Path) -> None:
    mounts = (
        "proc /proc proc rw 0 0\n"
        "cgroup /cg/cpuset cgroup rw,cpuset 0 0\n"
        "cgroup /cg/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
        f"cgroup2 {tmp_path} cgroup2 rw 0 0\n"
    )
    assert find_cpu_controller(mounts) == CpuController(1, Path("/cg/cpu,cpuacct"))


def test_version_2_is_found_where_it_has_the_cpu_controller(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io\n")
    assert find_cpu_controller(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n") == CpuController(2, tmp_path)


def test_a_machine_without_a_cpu_controller_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("hugetlb cpuset\n")
    with pytest.raises(FlexPieError, match="offers no control groups for the CPU"):
        find_cpu_controller(f"cgroup2 {tmp_path} cgroup2 rw 0 0\ncgroup /cg/cpuset cgroup rw,cpuset 0 0\n")


# ------------------------------------------------------------------------------------------------- cores


def test_cores_are_those_of_the_affinity_without_a_limit(tmp_path: Path) -> None:
    assert usable_cores(CpuController(1, tmp_path), "1:cpu:/\n", affinity=4) == 4


def test_the_limit_of_an_own_group_counts(tmp_path: Path) -> None:
    group = tmp_path / "docker" / "abc"
    group.mkdir(parents=True)
    (tmp_path / "docker" / "cpu.max").write_text("max 100000\n")
    (group / "cpu.max").write_text("150000 100000\n")
    assert usable_cores(CpuController(2, tmp_path), "0::/docker/abc\n", affinity=4) == 1.5


def test_the_limit_of_a_group_above_counts_in_version_1(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for group, value in ((tmp_path / "a", "200000"), (tmp_path / "a" / "b", "-1")):
        (group / "cpu.cfs_quota_us").write_text(value)
        (group / "cpu.cfs_period_us").write_text("100000")
    groups = "4:memory:/elsewhere\n1:cpu,cpuacct:/a/b\n0::/\n"
    assert usable_cores(CpuController(1, tmp_path), groups, affinity=4) == 2
