"""Requests wait for their turn, and leave nothing behind whichever way they go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.admission import Admission, AdmissionLimits
from flexpie.master.turnstile import Turnstile


def _run(scenario: Callable[[Turnstile], Awaitable[None]], *, requests: int = 10, running: int = 1) -> None:
    async def run() -> None:
        turnstile = Turnstile(Admission(AdmissionLimits(requests, requests, running, 1000)))
        await asyncio.wait_for(scenario(turnstile), 30)
        assert len(turnstile.admission) == 0
        assert turnstile.admission.nbytes == 0
        assert not turnstile._waiting

    asyncio.run(run())


def _soon(seconds: float = 30.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_one_runs_and_the_next_follows() -> None:
    async def scenario(turnstile: Turnstile) -> None:
        order: list[str] = []

        async def ask(name: str) -> None:
            async with turnstile.turn("cat", name, 1, _soon()):
                order.append(f"{name} runs")
                await asyncio.sleep(0)
                order.append(f"{name} ends")

        await asyncio.gather(*map(ask, "abc"))
        assert order == [f"{name} {what}" for name in "abc" for what in ("runs", "ends")]

    _run(scenario)


def test_who_is_refused_is_told_when_to_come_back() -> None:
    async def scenario(turnstile: Turnstile) -> None:
        async with turnstile.turn("cat", "a", 1, _soon()):
            with pytest.raises(FlexPieError, match="1 requests are held") as caught:
                async with turnstile.turn("cat", "b", 1, _soon()):
                    raise AssertionError
            assert caught.value.code is ErrorCode.OVERLOADED
            assert caught.value.retry_seconds

    _run(scenario, requests=1)


def test_the_deadline_may_pass_while_a_request_waits() -> None:
    async def scenario(turnstile: Turnstile) -> None:
        async with turnstile.turn("cat", "a", 1, _soon()):
            with pytest.raises(FlexPieError, match="waited for its turn") as caught:
                async with turnstile.turn("cat", "b", 1, _soon(0.0)):
                    raise AssertionError
            assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED

    _run(scenario)


def test_a_client_may_leave_the_line() -> None:
    async def scenario(turnstile: Turnstile) -> None:
        async def ask(name: str) -> None:
            async with turnstile.turn("cat", name, 1, _soon()):
                raise AssertionError

        async with turnstile.turn("cat", "a", 1, _soon()):
            waiting = asyncio.create_task(ask("b"))
            while turnstile.admission.waiting == 0:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert turnstile.admission.waiting == 0

    _run(scenario)


def test_a_failure_makes_room() -> None:
    async def scenario(turnstile: Turnstile) -> None:
        with pytest.raises(ValueError, match="no"):
            async with turnstile.turn("cat", "a", 1, _soon()):
                raise ValueError("no")
        async with turnstile.turn("cat", "b", 1, _soon()):
            pass

    _run(scenario)
