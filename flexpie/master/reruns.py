"""How often requests may be run, and which failures another run may not meet."""

from __future__ import annotations

from flexpie.core.errors import ErrorCode
from flexpie.master.events import RequestId

INTERRUPTING = frozenset({ErrorCode.DEVICE_UNREACHABLE, ErrorCode.SHUTTING_DOWN, ErrorCode.MODEL_NOT_READY})
"""What a worker, or the way to it, fails a run with when it is not the request's fault: a device or a link is lost, a
worker is shutting down, or has been started again and knows nothing of the deployment."""

MAX_RUNS = 8
"""Of one request. Each lost device costs one; a cluster that falls apart faster than this answers nobody."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Reruns:
    """Counts the runs of every request in flight."""

    def __init__(self) -> None:
        self._runs: dict[RequestId, int] = {}

    def begin(self, request: RequestId) -> None:
        """A run of the request begins."""
        self._runs[request] = self._runs.get(request, 0) + 1

    def may_begin(self, request: RequestId) -> bool:
        """Whether another run is allowed."""
        return self._runs.get(request, 0) < MAX_RUNS

    def pause_seconds(self, request: RequestId) -> float:
        """How long to wait before it is run again where all devices are still there: twice as long each time. The
        reason may be a link, which the workers at its ends report soon."""
        return min(FIRST_PAUSE_SECONDS * 2.0 ** (self._runs.get(request, 1) - 1), LONGEST_PAUSE_SECONDS)

    def forget(self, request: RequestId) -> None:
        """The request has ended."""
        self._runs.pop(request, None)

    def __len__(self) -> int:
        return len(self._runs)
