"""Each request of a batch gets its part of the outputs, or its error; whoever leaves is not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.batches import BatchCounts, Batches, Inputs, Outputs
from flexpie.master.batching import Batcher, Kind

SOON = 10.0


class _Model:
    """Doubles its input, as soon as it may."""

    def __init__(self, wait_seconds: float = 0.0, runs: int = 1) -> None:
        self.sizes: list[int] = []
        self.cancelled = 0
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None
        self.batches = Batches(
            Batcher(wait_seconds, runs), lambda _: (1, 2, 4), self._run, asyncio.create_task, BatchCounts()
        )

    async def _run(self, kind: Kind, size: int, inputs: Inputs, deadline: float) -> Outputs:
        array, dtype = inputs["x"]
        assert array.shape == (size, 2)
        self.sizes.append(size)
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return [(TensorSpec("y", array.shape, dtype), array * 2)]

    def ask(self, value: float, seconds: float = SOON) -> asyncio.Task[Outputs]:
        inputs = {"x": (np.full((1, 2), value, np.float32), ElementType.FLOAT32)}
        deadline = asyncio.get_running_loop().time() + seconds
        return asyncio.create_task(self.batches.infer(0, inputs, deadline))


def _run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(story(), 30)

    asyncio.run(bounded())


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _value(outputs: Outputs) -> float:
    ((spec, array),) = outputs
    assert spec.shape == array.shape == (1, 2)
    return float(array[0, 1])


def test_each_request_gets_its_own_part() -> None:
    async def story() -> None:
        model = _Model()
        model.may_answer.set()
        asked = [model.ask(number) for number in range(7)]
        assert [_value(await task) for task in asked] == [2.0 * number for number in range(7)]
        assert sum(model.sizes) == 7
        assert model.batches.counts.requests == sum(size for size in model.sizes if size > 1)
        assert model.batches.counts.batches == sum(size > 1 for size in model.sizes)

    _run(story)


def test_an_error_of_a_batch_is_that_of_each_request() -> None:
    async def story() -> None:
        model = _Model(wait_seconds=1.0)
        model.error = FlexPieError(ErrorCode.EXECUTION_FAILED, "It broke.")
        model.may_answer.set()
        for answer in await asyncio.gather(*(model.ask(number) for number in range(4)), return_exceptions=True):
            assert isinstance(answer, FlexPieError)
            assert answer.code is ErrorCode.EXECUTION_FAILED
        assert model.sizes == [4]
        model.error = None
        assert _value(await model.ask(1.0, seconds=1.1)) == 2.0, "its run is free again"

    _run(story)


def test_whoever_leaves_is_not_waited_for_and_the_others_stay() -> None:
    async def story() -> None:
        model = _Model(wait_seconds=1.0)
        asked = [model.ask(number) for number in range(4)]
        await _turns()
        gathering = [model.ask(number) for number in range(4, 7)]
        await _turns()
        for task in (asked[1], gathering[0]):
            task.cancel()
        model.may_answer.set()
        answers = await asyncio.gather(*asked, *gathering, return_exceptions=True)
        for number, answer in enumerate(answers):
            if number in (1, 4):
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert not isinstance(answer, BaseException)
                assert _value(answer) == 2.0 * number
        assert model.sizes == [4, 2]
        assert model.cancelled == 0

    _run(story)


def test_a_run_that_nobody_waits_for_ends() -> None:
    async def story() -> None:
        model = _Model(wait_seconds=1.0)
        asked = [model.ask(number) for number in range(4)]
        await _turns()
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await _turns()
        assert model.cancelled == 1
        model.may_answer.set()
        assert _value(await model.ask(1.0, seconds=1.1)) == 2.0

    _run(story)


def test_a_request_ends_with_its_own_deadline() -> None:
    async def story() -> None:
        model = _Model()
        with pytest.raises(FlexPieError) as caught:
            await model.ask(1.0, seconds=0.01)
        assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED

    _run(story)
