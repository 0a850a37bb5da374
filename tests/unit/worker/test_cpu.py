"""What a worker's process uses of the processor, by part."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flexpie.worker.cpu import EngineMeter, read_cpu


def _work(seconds: float) -> None:
    """Use so much of the processor on this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_parts_are_told_apart() -> None:
    meter = EngineMeter()

    def compute() -> int:
        with meter:
            _work(0.04)
        _work(0.02)
        return threading.get_ident()

    with ThreadPoolExecutor(1) as pool:
        ident = pool.submit(compute).result()
        own = time.thread_time()
        found = read_cpu(meter, ident)
    assert found.engine >= 0.04
    assert found.steps >= 0.02
    assert found.event_loop >= own
    assert found.process >= found.engine + found.steps + 0.5 * found.event_loop


def test_a_meter_counts_what_it_surrounds_only() -> None:
    meter = EngineMeter()
    _work(0.02)
    assert meter.seconds == 0
    with meter:
        _work(0.01)
    first = meter.seconds
    _work(0.02)
    assert meter.seconds == first >= 0.01
