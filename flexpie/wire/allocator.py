"""What the C library's allocator keeps of memory that was freed; only glibc's keeps much, elsewhere nothing is done.

Each thread allocates from an arena of its own. What is freed at its end stays with the arena, up to a size that grows
with the largest block ever freed, to 64 MiB: a daemon that plans in several threads keeps as many times what planning
takes once.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

KEPT_BYTES = 4 * 1024 * 1024
"""At most, at the end of each arena. Larger blocks are asked of the system one by one; the messages and tensors of most
requests are smaller, so that these find their memory where the request before left it."""

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3


def bound_kept_memory() -> None:
    """From now on, keep at most `KEPT_BYTES` at the end of an arena."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def return_free_memory() -> None:
    """Give the system all whole pages that are free; takes some milliseconds, in which nobody can allocate."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


@functools.cache
def _function(name: str) -> Callable[..., int] | None:
    """A function of the C library, where that is one that has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
