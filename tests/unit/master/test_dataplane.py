"""Runs of devices that take turns: given to who is free, and begun again when their device is lost."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from flexpie.core.errors import FlexPieError
from flexpie.core.program import MASTER, DeviceProgram, Receive, Send
from flexpie.master.dataplane import DataPlane
from flexpie.master.deployment import Deployment
from flexpie.master.events import Event, RequestArrived

ASKS_A_DEVICE = DeviceProgram(MASTER, (), (Send(0, 0, ()), Receive(1, 0, ())))
TURNS = Deployment("1", "cat", ("a", "b"), (0, 1), ASKS_A_DEVICE, (), turns={0: 0.25, 1: 0.75})
ASKS_NOBODY = Deployment("2", "dog", (), (), DeviceProgram(MASTER, (), (Receive(1, 0, ()),)), ())
"""A run of it is under way until its deadline: nobody answers."""


class _Link:
    def __init__(self, name: str, sent: list[str]) -> None:
        self._name, self._sent = name, sent

    def send(self, message: bytes) -> None:
        self._sent.append(self._name)


class _Watch:
    def wants_sample(self) -> bool:
        return False

    def begin(self, deployment: Deployment, run: int) -> None:
        raise AssertionError("no run is sampled")

    def finished(self, part: Any, seconds: float, *, alone: bool) -> None:
        raise AssertionError("no run is sampled")


def test_runs_of_different_models_do_not_all_go_to_the_same_device() -> None:
    """Nor do those of a model's batches, each of which has a deployment of its own."""
    sent: list[str] = []

    async def run() -> None:
        plane: DataPlane

        def tell(event: Event) -> None:
            if isinstance(event, RequestArrived):
                even = {0: 0.5, 1: 0.5}
                plane.start(event.request, dataclasses.replace(TURNS, id=event.model, turns=even))

        plane = DataPlane({name: _Link(name, sent) for name in "ab"}, tell, _Watch())
        deadline = asyncio.get_running_loop().time() + 0.2
        asked = [asyncio.create_task(plane.infer(model, 0, {}, deadline)) for model in ("1", "2", "4", "8")]
        while len(sent) < 4:
            await asyncio.sleep(0)
        assert sent == ["a", "b", "a", "b"]
        for task in asked:
            with pytest.raises(FlexPieError, match="not answered within"):
                await task

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_run_of_a_lost_device_begins_again_on_another_and_others_go_on() -> None:
    sent: list[str] = []

    async def run() -> None:
        plane: DataPlane

        def tell(event: Event) -> None:
            if isinstance(event, RequestArrived):
                plane.start(event.request, {"cat": TURNS, "dog": ASKS_NOBODY}[event.model])

        plane = DataPlane({name: _Link(name, sent) for name in "ab"}, tell, _Watch())
        deadline = asyncio.get_running_loop().time() + 0.5
        asked = [asyncio.create_task(plane.infer(model, 0, {}, deadline)) for model in ("dog", "cat", "cat")]
        while len(sent) < 2:
            await asyncio.sleep(0)
        assert sent == ["b", "b"], "three quarters of the requests are b's"
        sent.clear()
        plane.replace(TURNS.without("b"), "b")
        while sent.count("a") < 2:
            await asyncio.sleep(0)
        for task in asked:
            with pytest.raises(FlexPieError, match="not answered within"):
                await task

    asyncio.run(asyncio.wait_for(run(), 20))
