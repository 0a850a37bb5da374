"""Gathers a model's requests, runs them together and gives each its part of the outputs, on the event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.batching import Batch, Batcher, Kind, Sizes, Ticket
from flexpie.wire.tensors import Array
from flexpie.wire.waiting import within

Inputs = Mapping[str, tuple[Array, ElementType]]
Outputs = list[tuple[TensorSpec, Array]]

GRACE_SECONDS = 0.05
"""A run that misses its deadline tells what it was waiting for; its requests give it this time to do so."""


RunBatch = Callable[[Kind, int, Inputs, float], Awaitable[Outputs]]
"""Runs so many requests of a kind as one, with their joined inputs, until a deadline; raises what ends them."""


@dataclass
class BatchCounts:
    """What was gathered so far, of all models."""

    batches: int = 0
    """Runs of two requests or more."""
    requests: int = 0
    """That these runs answered."""


@dataclass
class _Run:
    """A batch under way."""

    batch: Batch
    waiting: set[Ticket]
    task: asyncio.Task[None] | None = None


@dataclass
class _Asked:
    inputs: Inputs
    deadline: float
    answer: asyncio.Future[Outputs]
    run: _Run | None = None


@dataclass
class Batches:
    """The requests of one model that gather or run."""

    batcher: Batcher
    sizes: Sizes
    run: RunBatch
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Has a task of the daemon's."""
    counts: BatchCounts
    _tickets: itertools.count[int] = field(default_factory=itertools.count)
    _asked: dict[Ticket, _Asked] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None

    async def infer(self, kind: Kind, inputs: Inputs, deadline: float) -> Outputs:
        """Answer a request together with others; raises the FlexPieError that ends its batch, or DEADLINE_EXCEEDED."""
        loop, ticket = asyncio.get_running_loop(), next(self._tickets)
        asked = self._asked[ticket] = _Asked(inputs, deadline, loop.create_future())
        self.batcher.arrive(ticket, kind, deadline, loop.time())
        try:
            self._advance()
            return await within(deadline - loop.time() + GRACE_SECONDS, asked.answer)
        except asyncio.TimeoutError:
            raise FlexPieError(
                ErrorCode.DEADLINE_EXCEEDED,
                "The deadline passed while the request's batch was waiting or running.",
                "Give it more time, or send fewer requests at once.",
            ) from None
        finally:
            self._leave(ticket, self._asked.pop(ticket))

    def _leave(self, ticket: Ticket, asked: _Asked) -> None:
        """A request is answered or gone; a run for which nobody waits any more ends."""
        if asked.run is None:
            self.batcher.leave(ticket)
            self._advance()
            return
        asked.run.waiting.discard(ticket)
        if not asked.run.waiting and asked.run.task is not None:
            asked.run.task.cancel()  # of one that has ended nothing happens

    def _advance(self) -> None:
        """Start what may start, and come back when more is due."""
        loop = asyncio.get_running_loop()
        for batch in self.batcher.start(loop.time(), self.sizes):
            run = _Run(batch, set(batch.tickets))
            members = [self._asked[ticket] for ticket in batch.tickets]
            for asked in members:
                asked.run = run
            run.task = self.spawn(self._answer(batch, members))
            run.task.add_done_callback(functools.partial(self._ended, batch, loop.time()))
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self.batcher.wake_at()
        self._timer = None if wake_at is None else loop.call_at(wake_at, self._advance)

    def _ended(self, batch: Batch, began: float, _: object) -> None:
        self.batcher.ended(batch.kind, asyncio.get_running_loop().time() - began)
        self._advance()

    async def _answer(self, batch: Batch, members: Sequence[_Asked]) -> None:
        size = len(members)
        try:
            outputs = await self.run(
                batch.kind, size, joined([asked.inputs for asked in members]), max(asked.deadline for asked in members)
            )
        except asyncio.CancelledError:
            for asked in members:
                asked.answer.cancel()
            raise
        except Exception as error:
            for asked in members:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            return
        if size > 1:
            self.counts.batches += 1
            self.counts.requests += size
        for row, asked in enumerate(members):
            if not asked.answer.done():
                asked.answer.set_result(part(outputs, row, size))


def joined(requests: Sequence[Inputs]) -> Inputs:
    """The inputs of several requests as those of one, along the first axis."""
    if len(requests) == 1:
        return requests[0]
    return {
        name: (np.concatenate([inputs[name][0] for inputs in requests]), kind)
        for name, (_, kind) in requests[0].items()
    }


def part(outputs: Outputs, row: int, size: int) -> Outputs:
    """One request's part of the outputs of a batch of that size."""
    if size == 1:
        return outputs
    return [(dataclasses.replace(spec, shape=(1, *spec.shape[1:])), array[row : row + 1]) for spec, array in outputs]
