from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.traces.running import LocalRunner, RayRunner, Runner, run_all


class FakeRay:
    """What `RayRunner` uses of Ray, run when it is waited for; the newest task is done first."""

    def __init__(self, cores: int = 2) -> None:
        self.cores = cores
        self.most_running = 0
        self.running = 0
        self.address: str | None = None

    def init(self, address: str | None, **_: object) -> None:
        if address == "nowhere":
            raise ConnectionError("nobody there\nlong story")
        self.address = address

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}

    def remote(self, **_: object) -> Any:
        def decorate(function: Any) -> Any:
            class Remote:
                @staticmethod
                def remote(task: Any) -> Any:
                    self.running += 1
                    self.most_running = max(self.most_running, self.running)
                    return lambda: function(task)

            return Remote

        return decorate

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        assert num_returns == 1
        self.running -= 1
        return running[-1:], running[:-1]

    def get(self, done: Any) -> Any:
        try:
            return done()
        except FlexPieError as error:
            raise WrappedError(error) from None


class WrappedError(FlexPieError):
    """What Ray makes of an error: of the same class, but without what it says."""

    def __init__(self, cause: FlexPieError) -> None:
        self.cause = cause


def _square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("runner", [LocalRunner(), RayRunner(ray=FakeRay())])
def test_every_task_is_run_once(runner: Runner) -> None:
    assert sorted(run_all(_square, range(7), runner)) == [0, 1, 4, 9, 16, 25, 36]


def test_no_more_tasks_are_taken_than_can_be_run() -> None:
    ray = FakeRay(cores=3)
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = run_all(_square, tasks(), RayRunner("auto", ray=ray))
    next(results)
    assert len(taken) == 4
    assert ray.most_running == 3
    assert ray.address == "auto"


def test_tasks_that_need_several_cores_are_fewer_at_once() -> None:
    ray = FakeRay(cores=4)
    list(run_all(_square, range(9), RayRunner(cores_per_task=2, ray=ray)))
    assert ray.most_running == 2


@pytest.mark.parametrize("runner", [LocalRunner(), RayRunner(ray=FakeRay())])
def test_an_error_ends_the_run(runner: Runner) -> None:
    def fail(number: int) -> int:
        raise FlexPieError(ErrorCode.EXECUTION_FAILED, "broken")

    with pytest.raises(FlexPieError) as caught:
        list(run_all(fail, range(3), runner))
    assert (caught.value.code, caught.value.message) == (ErrorCode.EXECUTION_FAILED, "broken")


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(FlexPieError, match="No Ray cluster at nowhere: nobody there") as caught:
        RayRunner("nowhere", ray=FakeRay())
    assert caught.value.code is ErrorCode.DEVICE_UNREACHABLE


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FlexPieError, match="package ray") as caught:
        RayRunner()
    assert "flexpie[ray]" in caught.value.remedy


@pytest.mark.slow
def test_tasks_run_on_a_real_ray_cluster() -> None:
    """In a process of its own, with which all that Ray starts ends."""
    pytest.importorskip("ray")
    program = (
        "import os; from flexpie.traces.running import RayRunner, run_all\n"
        "def square(number): return number * number, os.getpid()\n"
        "found = list(run_all(square, range(8), RayRunner()))\n"
        "assert sorted(square for square, _ in found) == [number * number for number in range(8)]\n"
        "assert os.getpid() not in {process for _, process in found}\n"
        "print('done')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert result.stdout.endswith("done\n"), result.stderr
