"""What a node does with the state's instructions that nothing else would notice going wrong."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, DeviceProgram, Part, Receive, Run, Send, SubgraphRef, Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.framing import Data, Failure, Frame, decode_frame
from flexpie.wire.outbox import Outbox
from flexpie.wire.tensors import Array
from flexpie.worker.engine import FakeEngine, FakeModel, Port
from flexpie.worker.events import DeployRequested, FrameArrived, RequestKey, TimePassed, UndeployRequested
from flexpie.worker.node import WorkerNode
from flexpie.worker.state import WorkerState
from flexpie.worker.store import Store
from tests.worker_programs import DOUBLE, ref, value

KEY = RequestKey("d", 1)
PROGRAM = DeviceProgram(
    0,
    (value("x", 0, 4), Value("y", Region(()), ElementType.OBJECT, opaque=True)),
    (Receive(0, MASTER, (0,)), Run(0, (0,), (1,)), Send(1, MASTER, (Part(1, Region(())),))),
    subgraphs=(SubgraphRef("double", ref(DOUBLE), ()),),
)
Function = Callable[[Sequence[Array]], Sequence[Any]]


class Scene:
    """A node whose only subgraph is a Python function, and what its master gets."""

    def __init__(self, folder: Path, function: Function) -> None:
        (folder / "store").mkdir()
        (folder / "store" / ref(DOUBLE).sha256).write_bytes(DOUBLE)
        ports = (Port("x", (4,), ElementType.FLOAT32),), (Port("y", (), ElementType.OBJECT),)
        engine = FakeEngine({DOUBLE: FakeModel(*ports, function)})
        self.received: asyncio.Queue[Frame] = asyncio.Queue()
        self.node = WorkerNode(WorkerState(), Store(folder / "store"), engine, [])

    async def _write(self, message: bytes) -> None:
        self.received.put_nowait(decode_frame(message))

    async def serve(self, scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
        outbox = Outbox(self._write)
        writing = asyncio.create_task(outbox.run())
        self.node.add_stream(0, outbox, "master")
        try:
            await asyncio.wait_for(scenario(self), 30)
        finally:
            writing.cancel()
            await self.node.close()

    async def deploy(self) -> None:
        await self.node.deploy(DeployRequested("d", PROGRAM, "master"), {})

    def ask(self) -> None:
        payload, now = np.arange(4, dtype=np.float32).tobytes(), self.node.time()
        self.node.handle(FrameArrived(KEY, 0, MASTER, payload, now + 30, now))


def run(folder: Path, function: Function, scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await Scene(folder, function).serve(scenario)

    asyncio.run(bounded())


def test_a_value_that_cannot_be_sent_fails_its_request(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.deploy()
        scene.ask()
        frame = await scene.received.get()
        assert isinstance(frame.content, Failure)
        assert frame.content.code is ErrorCode.EXECUTION_FAILED
        assert "cannot be sent" in frame.content.message

    run(tmp_path, lambda arrays: [object()], scenario)


def test_a_defect_while_sending_fails_the_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.deploy()
        scene.ask()
        frame = await scene.received.get()
        assert isinstance(frame.content, Failure)
        assert frame.content.code is ErrorCode.INTERNAL

    run(tmp_path, lambda arrays: ["\ud800"], scenario)  # half a character has no UTF-8
    assert "defect while sending" in caplog.text


def test_arrays_of_a_request_are_gone_when_it_is(tmp_path: Path) -> None:
    kept: list[weakref.ref[Array]] = []

    def function(arrays: Sequence[Array]) -> Sequence[Array]:
        result = arrays[0] * 2
        kept.append(weakref.ref(result))
        return [result]

    async def scenario(scene: Scene) -> None:
        await scene.deploy()
        scene.ask()
        frame = await scene.received.get()
        assert isinstance(frame.content, Data)
        gc.collect()
        assert kept[-1]() is None

    run(tmp_path, function, scenario)


def test_a_deployment_that_is_ended_as_soon_as_it_is_ready(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        deploying = asyncio.create_task(scene.deploy())
        while not any(deployment.ready for deployment in scene.node.state.deployments.values()):
            await asyncio.sleep(0)
        scene.node.handle(UndeployRequested("d"))
        with pytest.raises(FlexPieError) as raised:
            await deploying
        assert raised.value.code is ErrorCode.CANCELLED

    run(tmp_path, lambda arrays: [arrays[0]], scenario)


def test_a_deployment_of_a_master_that_is_not_there_does_not_last(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.deploy()
        await scene.node.deploy(DeployRequested("replayed", PROGRAM, "a master of last week"), {})
        deployments = scene.node.state.deployments
        assert deployments["d"].orphaned_at is None
        assert deployments["replayed"].orphaned_at is not None
        scene.node.handle(TimePassed(scene.node.time() + scene.node.state.limits.lease_seconds))
        assert set(deployments) == {"d"}

    run(tmp_path, lambda arrays: [arrays[0]], scenario)


def test_a_deadline_that_has_passed_already_disturbs_nobody_on_the_loop_that_workers_use(tmp_path: Path) -> None:
    async def scenario() -> None:
        scene = Scene(tmp_path, lambda arrays: [object()])

        async def late(scene: Scene) -> None:
            await scene.deploy()
            now = scene.node.time()
            for number in (1, 2):
                payload = np.arange(4, dtype=np.float32).tobytes()
                scene.node.handle(FrameArrived(RequestKey("d", number), 0, MASTER, payload, now - 1, now))
            for _ in range(2):
                frame = await scene.received.get()
                assert isinstance(frame.content, Failure)

        await scene.serve(late)

    uvloop.run(scenario())
