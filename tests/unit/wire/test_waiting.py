"""A cancellation is never lost, whatever else happens at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from flexpie.wire.waiting import within


def test_it_returns_raises_and_gives_up() -> None:
    async def scenario() -> None:
        async def failing() -> None:
            raise ValueError("no")

        assert await within(10, asyncio.sleep(0, "done")) == "done"
        with pytest.raises(ValueError, match="no"):
            await within(10, failing())
        forever = asyncio.get_running_loop().create_future()
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, forever)
        assert forever.cancelled()

    asyncio.run(scenario())


def test_a_cancellation_counts_also_where_the_result_is_there() -> None:
    async def scenario() -> None:
        result: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(within(10, result))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        result.set_result(None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
