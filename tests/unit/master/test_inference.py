"""The master's part of one inference, with fakes for the devices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, Assemble, DeviceProgram, Feed, Part, Receive, Release, Run, Send, Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.master.deployment import Deployment
from flexpie.master.inference import run_program
from flexpie.master.request import Request
from flexpie.wire.framing import Data, Frame, decode_frame
from flexpie.wire.tensors import Array

FLOAT = ElementType.FLOAT32
X = TensorSpec("x", (4, 2), FLOAT)
Y = TensorSpec("y", (4,), ElementType.INT64)


def _program(*extra: Any) -> DeviceProgram:
    """Rows 0 to 3 go to device 0 and rows 2 to 4 to device 1; two halves of y come back."""
    values = (
        Value("x", X.whole, FLOAT),
        Value("y", Region.of((0, 2)), Y.dtype),
        Value("y", Region.of((2, 4)), Y.dtype),
        Value("y", Y.whole, Y.dtype),
    )
    steps = (
        Feed(0),
        Send(0, 0, (Part(0, Region.of((0, 3), (0, 2))),)),
        Send(0, 1, (Part(0, Region.of((2, 4), (0, 2))),)),
        Release((0,)),
        Receive(5, 0, (1,)),
        Receive(5, 1, (2,)),
        Assemble(3, (Part(1, Region.of((0, 2))), Part(2, Region.of((2, 4))))),
        *extra,
    )
    return DeviceProgram(MASTER, values, steps, outputs=(3,))


def _deployment(*extra: Any) -> Deployment:
    return Deployment("d-1", "cat", ("a", "b"), (0, 1), _program(*extra), (Y,))


class FakeOutbox:
    """Keeps what is sent, and may answer it."""

    def __init__(self, answer: Callable[[str, Frame], None] = lambda device, frame: None) -> None:
        self.sent: list[tuple[str, Frame]] = []
        self.payload_bytes = 0
        self._answer = answer

    def send(self, device: str, message: bytes, payload_bytes: int) -> None:
        frame = decode_frame(message)
        self.sent.append((device, frame))
        self.payload_bytes += payload_bytes
        self._answer(device, frame)


def _run(scenario: Callable[[Request], Awaitable[Any]], timeout: float = 30.0) -> Any:
    async def run() -> Any:
        request = Request(7, "cat", asyncio.get_running_loop().time() + timeout)
        try:
            return await scenario(request)
        finally:
            request.close()

    return asyncio.run(run())


def _payload(*numbers: int) -> memoryview:
    return memoryview(np.array(numbers, dtype=np.int64).tobytes())


def test_regions_go_out_and_parts_come_back_together() -> None:
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    outbox = FakeOutbox()

    async def scenario(request: Request) -> list[Array]:
        request.deliver(5, 1, _payload(3, 4))  # early, before the other one
        running = asyncio.create_task(run_program(_deployment(), request, {"x": x}, outbox))
        await asyncio.sleep(0)
        request.deliver(5, 0, _payload(1, 2))
        return await running

    (y,) = _run(scenario)
    np.testing.assert_array_equal(y, [1, 2, 3, 4])
    (first, to_a), (second, to_b) = outbox.sent
    assert (first, second) == ("a", "b")
    assert (to_a.deployment_id, to_a.request_id, to_a.content) == ("d-1", 7, Data(0, MASTER))
    assert bytes(to_a.payload) == x[0:3].tobytes()
    assert bytes(to_b.payload) == x[2:4].tobytes()
    assert 29_000 < to_a.timeout_milliseconds <= 30_001
    assert outbox.payload_bytes == (3 + 2) * 2 * 4


def test_the_first_failure_ends_the_request() -> None:
    async def scenario(request: Request) -> None:
        request.fail(FlexPieError(ErrorCode.EXECUTION_FAILED, "a broke"))
        request.fail(FlexPieError(ErrorCode.CANCELLED, "so b gave up"))
        await run_program(_deployment(), request, {"x": np.zeros((4, 2), np.float32)}, FakeOutbox())

    with pytest.raises(FlexPieError, match="a broke"):
        _run(scenario)


def test_a_device_that_is_not_connected_ends_the_request() -> None:
    class Broken:
        def send(self, device: str, message: bytes, payload_bytes: int) -> None:
            raise FlexPieError(ErrorCode.DEVICE_UNREACHABLE, f"{device} is gone")

    async def scenario(request: Request) -> None:
        await run_program(_deployment(), request, {"x": np.zeros((4, 2), np.float32)}, Broken())

    with pytest.raises(FlexPieError, match="a is gone"):
        _run(scenario)


def test_the_deadline_ends_a_request_that_nobody_answers() -> None:
    async def scenario(request: Request) -> None:
        await run_program(_deployment(), request, {"x": np.zeros((4, 2), np.float32)}, FakeOutbox())

    with pytest.raises(FlexPieError, match="not answered within") as caught:
        _run(scenario, timeout=0.01)
    assert caught.value.code is ErrorCode.DEADLINE_EXCEEDED


def test_a_result_of_the_wrong_size_is_not_an_answer() -> None:
    async def scenario(request: Request) -> None:
        request.deliver(5, 0, _payload(1))
        await run_program(_deployment(), request, {"x": np.zeros((4, 2), np.float32)}, FakeOutbox())

    with pytest.raises(FlexPieError) as caught:
        _run(scenario)
    assert caught.value.code is ErrorCode.CORRUPT_PACKAGE


def test_the_master_runs_no_subgraph() -> None:
    async def scenario(request: Request) -> None:
        request.deliver(5, 0, _payload(1, 2))
        request.deliver(5, 1, _payload(3, 4))
        await run_program(_deployment(Run(0, (), ())), request, {"x": np.zeros((4, 2), np.float32)}, FakeOutbox())

    with pytest.raises(FlexPieError) as caught:
        _run(scenario)
    assert caught.value.code is ErrorCode.INTERNAL


def test_a_request_waits_for_its_deployment() -> None:
    async def scenario(request: Request) -> Deployment:
        waiting = asyncio.create_task(request.started())
        await asyncio.sleep(0)
        request.start(_deployment())
        return await waiting

    assert _run(scenario).id == "d-1"
