"""Records as a small benchmark leaves them."""

from __future__ import annotations

from flexpie.benchmark.cells import ALONE, OURS, Cell, Ground
from flexpie.benchmark.records import Check, Header, Launch, Machine, Planned, Record, Traced
from flexpie.client import TraceSpan
from flexpie.testbed.selftest import DeviceSpeed, LinkSpeed, SelfTest

CELL = Cell("resnet18", Ground((0.2,) * 4, 1e9))
MACHINE = Machine("a processor", 2, "6.1", "3.11", "1.20")
HEADER = Header("0.1.0", MACHINE, "2030-01-01T00:00:00+00:00")
QUIET = SelfTest((DeviceSpeed("d0", 0.2, 0.2),), (LinkSpeed("d0", "d1", 1e9, 9.5e8),), 0.01, 0.0, 1.05)


def launch(
    strategy: str, number: int, *milliseconds: float, cell: Cell = CELL, noisy: bool = False, equal: bool = True
) -> Launch:
    """A launch with requests of so many milliseconds."""
    seconds = tuple(value / 1e3 for value in milliseconds)
    return Launch(cell, strategy, number, seconds, sum(seconds), 1e-7, equal, {"d0": 0.01}, noisy, "later")


def spans(*steps: tuple[str, str, float, float]) -> tuple[TraceSpan, ...]:
    """Activity, what, and when it began and ended, in milliseconds."""
    return tuple(TraceSpan(activity, what, start / 1e3, stop / 1e3, 100) for activity, what, start, stop in steps)


TRACE = Traced(CELL, OURS, (0.02, 0.01), (1.0, 1.05), {
    "d0": spans(("receiving", "0", 1001, 1001), ("computing", "segment0", 1002, 1020), ("sending", "1", 1020, 1021),
                ("computing", "segment1", 1025, 1045)),
    "d1": spans(("receiving", "0", 1003, 1003), ("computing", "segment0", 1004, 1025), ("receiving", "1", 1024, 1024),
                ("assembling", "x", 1025, 1026), ("computing", "segment1", 1026, 1040)),
})  # fmt: skip


def small_benchmark() -> list[Record]:
    """One cell, three strategies, two rounds."""
    return [
        Check(CELL, QUIET, "now"),
        Planned(CELL, OURS, 0.048, 0.3, 5, 4),
        Planned(CELL, "InH", 0.075, 0.1, 21, 4),
        launch(OURS, 1, 50, 51, 49),
        launch(ALONE, 1, 100, 101, 99),
        launch("InH", 1, 80, 80, 80),
        launch("InH", 2, 82, 82, 82),
        launch(ALONE, 2, 104, 104, 104),
        launch(OURS, 2, 52, 52, 52),
    ]
