"""What a worker's process uses of the processor, by part: what is left beside onnxruntime is what dividing costs."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class CpuSeconds:
    """Processor time since the process began. The parts overlap nowhere; what `process` has beside them are threads of
    libraries: gRPC's, and onnxruntime's where it has several."""

    process: float
    """All threads together."""
    engine: float
    """onnxruntime, on the thread that computes."""
    steps: float
    """The rest of that thread: assembling, mostly."""
    event_loop: float


class EngineMeter:
    """Counts the processor time of the blocks that it surrounds; one thread at a time uses it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.thread_time() - self._began


def read_cpu(meter: EngineMeter, computing: int) -> CpuSeconds:
    """The present counts, asked for on the event loop's thread; `computing` is the identity of the thread that
    computes, which must be alive."""
    engine = meter.seconds
    return CpuSeconds(
        process=time.process_time(),
        engine=engine,
        steps=max(0.0, _thread_seconds(computing) - engine),
        event_loop=time.thread_time(),
    )


def _thread_seconds(ident: int) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(ident))
