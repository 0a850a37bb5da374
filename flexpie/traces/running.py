"""Runs tasks that yield samples or figures: here one after another, or side by side on the machines of a Ray cluster.

    for result in run_all(measure, tasks, RayRunner()):
        writer.add(result)

The function and its tasks are the same for both. Ray is an optional extra, and this module its only home.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from flexpie.core.errors import ErrorCode, FlexPieError

T = TypeVar("T")
R = TypeVar("R")


class Runner(Protocol):
    """Where tasks are run."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """What the function returns for each task, in any order, as soon as it is there.

        Tasks are taken only when they can be run. The first error ends the iteration.
        """
        ...


def run_all(function: Callable[[T], R], tasks: Iterable[T], runner: Runner) -> Iterator[R]:
    """What the function returns for each task; see `Runner.run`."""
    yield from runner.run(function, tasks)


class LocalRunner:
    """In this process, one after another: what is measured here has the machine to itself."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Runner.run`."""
        yield from map(function, tasks)


class RayRunner:
    """On a Ray cluster, a task on each core, or on as many as `cores_per_task`.

    The machines need FlexPie with the extra ``ray``.
    """

    def __init__(self, address: str | None = None, cores_per_task: float = 1.0, ray: Any = None) -> None:
        """Connect to the cluster at an address, such as ``auto`` or ``ray://head:10001``; without one, start Ray on
        this machine. `ray` is the module to use instead of the installed one.

        Raises ``INVALID_ARGUMENT`` where Ray is not installed, ``DEVICE_UNREACHABLE`` where no cluster answers.
        """
        self._ray = _ray() if ray is None else ray
        self._cores = cores_per_task
        try:
            self._ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise FlexPieError(
                ErrorCode.DEVICE_UNREACHABLE,
                f"No Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}",
                "Start one with `ray start --head`, or give the address of one.",
            ) from None

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Runner.run`."""
        remote = self._ray.remote(num_cpus=self._cores, max_retries=0)(function)
        places = max(1, int(self._ray.cluster_resources().get("CPU", 1) / self._cores))
        running: list[Any] = []
        for task in tasks:
            if len(running) >= places:
                yield self._next(running)
            running.append(remote.remote(task))
        while running:
            yield self._next(running)

    def _next(self, running: list[Any]) -> Any:
        """Wait for the first task that is done."""
        (done,), running[:] = self._ray.wait(running, num_returns=1)
        try:
            return self._ray.get(done)
        except FlexPieError as error:  # Ray wraps it, and keeps it as the cause
            raise getattr(error, "cause", error) from None


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            "This needs the package ray, which is not installed.",
            "Install it with: pip install 'flexpie[ray]'",
        ) from None
