"""One request on its way: what it waits for, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.deployment import Deployment
from flexpie.wire.v1 import peer_pb2

_Result = TypeVar("_Result")


class RunInterruptedError(Exception):
    """A run of a request cannot be finished; another one may be."""

    def __init__(self, cause: FlexPieError | None = None, device: str = "") -> None:
        """`cause` and `device` say what went wrong and who told; None where it was decided from outside."""
        super().__init__("" if cause is None else cause.message)
        self.cause = cause
        self.device = device


class Request:
    """A request in flight, on the event loop's thread. It may take several runs to answer it: inference changes
    nothing, so that what a lost device left unfinished is done again.

    Whatever it waits for is bounded by its deadline: nothing that happens elsewhere, or fails to, makes it hang.
    """

    def __init__(self, number: int, model: str, deadline: float) -> None:
        """`deadline` is a time of the running event loop's clock."""
        self._loop = asyncio.get_running_loop()
        self.number = number
        self.run = number
        """Number of the run under way: what workers know the request by."""
        self.model = model
        self.deadline = deadline
        self.deployment: Deployment | None = None
        self.failed_on = ""
        """Name of the device that it failed on, where one told."""
        self.sample: peer_pb2.RequestSample | None = None
        """What is told of the run under way, where it is sampled."""
        self._interruption: RunInterruptedError | None = None
        self._error: FlexPieError | None = None
        self._messages: dict[tuple[int, int], memoryview] = {}
        self._changed: asyncio.Future[None] | None = None
        self._started_at = self._loop.time()
        self._timer = self._loop.call_at(deadline, self._time_out)

    @property
    def timeout_milliseconds(self) -> int:
        """Time left until the deadline, rounded up; at least 1."""
        return max(1, int((self.deadline - self._loop.time()) * 1000) + 1)

    @property
    def messages(self) -> int:
        """That came in and were not taken yet."""
        return len(self._messages)

    @property
    def end_reason(self) -> str:
        """Why it ended without an answer."""
        if self._error is not None:
            return self._error.message
        return "the client gave it up" if self._interruption is None else "it is run again"

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def start(self, deployment: Deployment) -> None:
        """The deployment that it runs on next is known."""
        self.deployment = deployment
        self._wake()

    def begin(self, run: int) -> None:
        """A run begins; nothing of an earlier one counts any more."""
        self.run = run
        self.sample = None
        self._interruption = None
        self._messages.clear()

    def hold(self) -> None:
        """The run under way is of no use; another one may be started."""
        self.deployment = None
        self.interrupt(RunInterruptedError())

    def interrupt(self, interruption: RunInterruptedError) -> None:
        """The run under way cannot be finished. The first reason counts."""
        if self._interruption is None:
            self._interruption = interruption
            self._wake()

    def sent(self, exchange: int, destination: int, nbytes: int) -> None:
        """A message of an exchange was handed over."""
        if self.sample is not None:
            self.sample.sent.add(exchange=exchange, other=destination, nbytes=nbytes, at=self._loop.time())

    def deliver(self, exchange: int, source: int, payload: memoryview) -> None:
        """A message of an exchange came in."""
        self._messages[exchange, source] = payload
        if self.sample is not None:
            self.sample.received.add(exchange=exchange, other=source, nbytes=len(payload), at=self._loop.time())
        self._wake()

    def fail(self, error: FlexPieError, device: str = "") -> None:
        """It cannot be finished, as `device` tells. The first reason counts."""
        if self._error is None:
            self._error, self.failed_on = error, device
            self._wake()

    def close(self) -> None:
        """It is answered, one way or the other."""
        self._timer.cancel()
        self._messages.clear()

    async def started(self) -> Deployment:
        """The deployment that it runs on; raises the error that ends the request."""
        return await self._wait(lambda: self.deployment, interruptible=False)

    async def message(self, exchange: int, source: int) -> memoryview:
        """The payload of a message; raises the error that ends the request, or RunInterruptedError."""
        return await self._wait(lambda: self._messages.pop((exchange, source), None))

    async def _wait(self, result: Callable[[], _Result | None], *, interruptible: bool = True) -> _Result:
        while True:
            if self._error is not None:
                raise self._error
            if interruptible and self._interruption is not None:
                raise self._interruption
            found = result()
            if found is not None:
                return found
            self._changed = self._loop.create_future()
            await self._changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _time_out(self) -> None:
        seconds = self._loop.time() - self._started_at
        self.fail(
            FlexPieError(
                ErrorCode.DEADLINE_EXCEEDED,
                f"The request to {self.model} was not answered within {seconds:.3g} s.",
                "Give it more time, or look at `flexpie status`: the master may be planning again.",
            )
        )
