"""Waiting with a deadline, without losing a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


async def within(seconds: float | None, awaited: Awaitable[_Result]) -> _Result:
    """What is awaited; raises asyncio.TimeoutError when it takes longer (None: as long as it takes).

    Where the result and a cancellation come at once, `asyncio.wait_for` before Python 3.12 returns the one and forgets
    the other (https://github.com/python/cpython/issues/86296): a task that goes on for ever then cannot be ended.
    """
    task = asyncio.ensure_future(awaited)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
