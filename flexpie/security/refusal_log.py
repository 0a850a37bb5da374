"""Refused strangers in the log: enough to notice them, however often they knock."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

REPEAT_SECONDS = 60.0
"""The same refusal is logged once in so long."""
MAX_KINDS = 1000
"""Kinds of refusals that are remembered; strangers cannot fill the memory."""


class RefusalLog:
    """Logs each kind of refusal once a minute, with how many there were in between."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def note(self, kind: Hashable, message: str) -> None:
        """Somebody was refused; `kind` tells which refusals are the same."""
        time_now = self._clock()
        last, held_back = self._seen.get(kind, (float("-inf"), 0))
        if time_now - last < REPEAT_SECONDS:
            self._seen[kind] = last, held_back + 1
            return
        more = f" ({held_back} more since the last such line)" if held_back else ""
        self._log.warning("refused %s%s", message, more)
        self._seen[kind] = time_now, 0
        self._seen.move_to_end(kind)
        if len(self._seen) > MAX_KINDS:
            self._seen.popitem(last=False)
