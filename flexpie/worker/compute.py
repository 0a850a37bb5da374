"""The thread that computes. The event loop stays free to move messages while onnxruntime works."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

from flexpie.worker.events import Event


class ComputeThread:
    """Executes jobs one after another; each yields an event, delivered on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Event], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._jobs: queue.SimpleQueue[Callable[[], Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="compute", daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        """Identity of the thread."""
        assert self._thread.ident is not None  # it was started
        return self._thread.ident

    def submit(self, job: Callable[[], Event]) -> None:
        """Queue a job; it must not raise."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread after the jobs in the queue."""
        self._jobs.put(None)

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            event = job()
            del job  # and with it the request's arrays, for as long as there is nothing to do
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(self._deliver, event)
