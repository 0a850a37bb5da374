"""Lets requests in as `flexpie.master.admission` decides: they wait here for their turn, on the event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.admission import Admission, Client, Ticket
from flexpie.wire.waiting import within


class Turnstile:
    """Where requests wait until they may run."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self._tickets = itertools.count()
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def turn(self, model: str, client: Client, nbytes: int, deadline: float) -> AsyncIterator[None]:
        """Wait for a request's turn; it runs inside of the ``async with`` block. `deadline` is a time of the running
        event loop's clock.

        Raises ``OVERLOADED``, with the pause after which to ask again, and ``DEADLINE_EXCEEDED``.
        """
        loop, ticket = asyncio.get_running_loop(), next(self._tickets)
        refusal = self.admission.arrive(ticket, model, client, nbytes)
        if refusal is not None:
            raise FlexPieError(
                ErrorCode.OVERLOADED,
                f"{refusal.reason[0].upper()}{refusal.reason[1:]}.",
                "Send the request again later, or start the master with a higher --max-requests.",
                retry_seconds=refusal.retry_seconds,
            )
        turn = self._waiting[ticket] = loop.create_future()
        try:
            self.advance()
            if not turn.done():
                await self._wait(turn, model, deadline - loop.time())
            yield
        finally:
            self._waiting.pop(ticket, None)
            self.admission.leave(ticket, loop.time())
            self.advance()

    def advance(self) -> None:
        """Let everybody run who may."""
        for ticket in self.admission.start(asyncio.get_running_loop().time()):
            turn = self._waiting.pop(ticket)
            if not turn.done():
                turn.set_result(None)

    async def _wait(self, turn: asyncio.Future[None], model: str, timeout_seconds: float) -> None:
        try:
            await within(timeout_seconds, turn)
        except asyncio.TimeoutError:
            raise FlexPieError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"The request to {model} waited for its turn until its deadline had passed.",
                "Give it more time, or send fewer requests at once.",
            ) from None
