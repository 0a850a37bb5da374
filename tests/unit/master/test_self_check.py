"""Now and then an answer is compared with one device's; who computes other results than the others is named."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from flexpie.core.boundary import Boundary
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, DeviceProgram
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.deployment import Deployment
from flexpie.master.events import Event, PlanDistrusted
from flexpie.master.self_check import Answer, Arrays, NotComparableError, SelfCheck, described, majority

Y = TensorSpec("y", (2,), ElementType.FLOAT32)
SPLIT = Deployment("d", "cat", ("a", "b", "c"), (0, 1, 2), DeviceProgram(MASTER, (), ()), (Y,))
ALONE = Deployment("d", "cat", ("a", "b"), (0,), DeviceProgram(MASTER, (), ()), (Y,))


def _y(value: float) -> Arrays:
    return {"y": np.full(2, value, np.float32)}


class Bench:
    """A check among devices that answer as a test says."""

    def __init__(self, every: int = 1, **answers: float | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.told: list[Event] = []
        self.checks = SelfCheck(every, self._ask, lambda: list(answers), self.told.append)

    async def _ask(self, device: str, model: str, profile: int, inputs: Arrays) -> Arrays:
        self.asked.append(device)
        answer = self.answers[device]
        if isinstance(answer, Exception):
            raise answer
        return _y(answer)

    def check(self, split: float, times: int = 1) -> None:
        async def run() -> None:
            for _ in range(times):
                await self.checks.check(Answer(SPLIT, 0, {}, _y(split)))

        asyncio.run(run())


def test_one_answer_in_so_many_is_due() -> None:
    checks = Bench(every=3).checks
    assert [checks.is_due(SPLIT) for _ in range(7)] == [False, False, True, False, False, True, False]


def test_nothing_is_due_where_it_is_not_wanted_or_nothing_is_divided() -> None:
    assert not Bench(every=0).checks.is_due(SPLIT)
    assert not Bench(every=1).checks.is_due(ALONE)


def test_devices_are_asked_in_turn_and_rounding_is_no_alarm() -> None:
    bench = Bench(a=1.0, b=1.00001, c=1.0)
    bench.check(1.0, times=4)
    assert bench.asked == ["a", "b", "c", "a"]
    assert (bench.checks.checked, bench.checks.failed, bench.told) == (4, 0, [])


def test_the_device_that_computes_something_else_is_named() -> None:
    bench = Bench(a=1.0, b=1.0, c=2.0)
    bench.check(1.5)
    (told,) = bench.told
    assert isinstance(told, PlanDistrusted)
    assert (told.deployment, told.trusted) == ("d", frozenset({"a", "b"}))
    assert told.reason.endswith("c alone computes other results than a, b")


def test_a_device_without_room_has_no_say() -> None:
    bench = Bench(a=1.0, b=FlexPieError(ErrorCode.OUT_OF_MEMORY, "No room."), c=1.0)
    bench.check(1.5)
    (told,) = bench.told
    assert isinstance(told, PlanDistrusted)
    assert told.trusted == frozenset({"a", "c"})
    assert "what they exchange is wrong" in told.reason


@pytest.mark.parametrize("error", [NotComparableError("it draws random numbers"), FlexPieError(ErrorCode.INTERNAL, "")])
def test_what_cannot_be_compared_is_no_alarm(error: Exception) -> None:
    bench = Bench(a=error, b=error)
    bench.check(1.0)
    assert (bench.checks.checked, bench.told) == (0, [])
    assert bench.checks.is_due(SPLIT) is not isinstance(error, NotComparableError)


def _rounded(**outputs: tuple[ElementType, float]) -> tuple[Deployment, Arrays]:
    """A deployment with float16 boundaries, and an answer of it."""
    specs = tuple(TensorSpec(name, (2,), kind) for name, (kind, _) in outputs.items())
    deployment = replace(SPLIT, outputs=specs, boundary=Boundary.FLOAT16)
    return deployment, {name: np.full(2, value, kind.value) for name, (kind, value) in outputs.items()}


@pytest.mark.parametrize(("split", "alarms"), [(1.001, 0), (0.99, 0), (1.05, 1), (float("nan"), 1)])
def test_float16_boundaries_may_round_but_not_more(split: float, alarms: int) -> None:
    bench = Bench(a=1.0, b=1.0)
    deployment, answer = _rounded(y=(ElementType.FLOAT32, split))
    asyncio.run(bench.checks.check(Answer(deployment, 0, {}, answer)))
    assert (bench.checks.checked, bench.checks.failed) == (1, alarms)


def test_whole_numbers_behind_float16_boundaries_are_not_compared() -> None:
    bench = Bench(a=1.0, b=1.0)
    deployment, answer = _rounded(y=(ElementType.FLOAT32, 1.0), best=(ElementType.INT64, 7))
    asyncio.run(bench.checks.check(Answer(deployment, 0, {}, answer)))
    assert (bench.checks.checked, bench.checks.failed) == (1, 0)
    deployment, answer = _rounded(best=(ElementType.INT64, 7))
    asyncio.run(bench.checks.check(Answer(deployment, 0, {}, answer)))
    assert (bench.checks.checked, bench.checks.is_due(deployment)) == (1, False)


def test_the_largest_group_that_agrees_is_trusted() -> None:
    answers = {"a": _y(1), "b": _y(2), "c": _y(2), "d": _y(3)}
    assert majority(answers) == ("b", "c")
    assert majority({"a": _y(1), "b": _y(2)}) == ("a",)
    assert majority({}) == ()
    assert described({"a": _y(1), "b": _y(2)}, ["a"]) == (
        "a and b compute different results, and nothing tells which are right"
    )
