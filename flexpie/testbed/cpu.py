"""CPU shares by control groups, of either version.

The period is short (5 ms), so that a single layer runs at the device's speed and not by chance at a full core's.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flexpie.core.errors import ErrorCode, FlexPieError

PERIOD_MICROSECONDS = 5000
LEAST_QUOTA_MICROSECONDS = 1000
"""The kernel takes no less."""
REMOVE_SECONDS = 5.0


def quota(cpu: float) -> tuple[int, int]:
    """Microseconds that may run in each period, and the period, for a share of `cpu` cores.

    Shares below a fifth of a core get a longer period, because a quota has at least 1 ms.
    """
    wanted = round(cpu * PERIOD_MICROSECONDS)
    if wanted >= LEAST_QUOTA_MICROSECONDS:
        return wanted, PERIOD_MICROSECONDS
    return LEAST_QUOTA_MICROSECONDS, round(LEAST_QUOTA_MICROSECONDS / cpu)


@dataclass(frozen=True)
class CpuController:
    """Where this machine's control groups for the CPU are."""

    version: int
    """1 or 2."""
    root: Path

    def create(self, run: str) -> None:
        """Make the group of a testbed.

        Raises FlexPieError(INVALID_ARGUMENT) where the controller cannot be used.
        """
        try:
            if self.version == 2:
                self._delegate(self.root)
            (self.root / run).mkdir()
            # A real device shares its processor with nobody: within their quotas, these come before everything else.
            name, most = ("cpu.weight", 10_000) if self.version == 2 else ("cpu.shares", 262_144)
            (self.root / run / name).write_text(str(most))
            if self.version == 2:
                self._delegate(self.root / run)
        except OSError as error:
            raise FlexPieError(
                ErrorCode.INVALID_ARGUMENT,
                f"{self.root}: control groups for the CPU cannot be made here ({error.strerror}).",
                "Run as root, and inside of a container with --privileged and --cgroupns=host.",
            ) from None

    def limit(self, run: str, device: str, cpu: float | None) -> None:
        """Give a device of a testbed a share of `cpu` cores, or, with None, all it can get."""
        group = self.root / run / device
        group.mkdir(exist_ok=True)
        share, period = quota(cpu) if cpu is not None else (None, PERIOD_MICROSECONDS)
        if self.version == 2:
            (group / "cpu.max").write_text(f"{'max' if share is None else share} {period}")
            return
        # With the quota lifted first, no pair of old and new values can be refused.
        (group / "cpu.cfs_quota_us").write_text("-1")
        (group / "cpu.cfs_period_us").write_text(str(period))
        if share is not None:
            (group / "cpu.cfs_quota_us").write_text(str(share))

    def add(self, run: str, device: str, pid: int) -> None:
        """Put a process with all its threads into a device's group."""
        (self.root / run / device / "cgroup.procs").write_text(str(pid))

    def remove(self, run: str) -> None:
        """Remove the groups of a testbed; its processes must have ended."""
        group = self.root / run
        with suppress(FileNotFoundError):
            for child in list(group.iterdir()):
                if child.is_dir():
                    _remove(child)
            _remove(group)

    def _delegate(self, group: Path) -> None:
        control = group / "cgroup.subtree_control"
        if "cpu" not in control.read_text().split():
            control.write_text("+cpu")


def find_cpu_controller(mounts: str) -> CpuController:
    """The controller, from the text of ``/proc/mounts``: a version 1 hierarchy for the CPU, or version 2 with it.

    Raises FlexPieError(INVALID_ARGUMENT) when there is none.
    """
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split()
        root = Path(where)
        if kind == "cgroup" and "cpu" in options.split(","):
            return CpuController(1, root)
        controllers = root / "cgroup.controllers"
        if kind == "cgroup2" and controllers.is_file() and "cpu" in controllers.read_text().split():
            return CpuController(2, root)
    raise FlexPieError(
        ErrorCode.INVALID_ARGUMENT,
        "This machine offers no control groups for the CPU.",
        "Mount them (mount -t cgroup2 none /sys/fs/cgroup); the kernel needs CONFIG_CFS_BANDWIDTH.",
    )


def usable_cores(controller: CpuController, own_groups: str, affinity: int | None = None) -> float:
    """Cores that this process may use: those that it may run on, and what its own groups leave it.

    Parameters
    ----------
    own_groups: text of ``/proc/self/cgroup``.
    affinity: cores it may run on; asked from the kernel by default.
    """
    cores = float(len(os.sched_getaffinity(0)) if affinity is None else affinity)
    group = controller.root / _own_group(controller, own_groups).lstrip("/")
    while group != controller.root.parent and group != group.parent:
        cores = min(cores, _limit_of(controller, group))
        group = group.parent
    return cores


def _remove(group: Path) -> None:
    """A process that has just ended may keep its group for a moment."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            return group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _own_group(controller: CpuController, own_groups: str) -> str:
    for line in own_groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if (controller.version == 2 and not controllers) or "cpu" in controllers.split(","):
            return path
    return "/"


def _limit_of(controller: CpuController, group: Path) -> float:
    with suppress(OSError, ValueError):
        if controller.version == 2:
            share, period = (group / "cpu.max").read_text().split()
        else:
            share, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if float(share) > 0:
            return float(share) / float(period)
    return float("inf")
