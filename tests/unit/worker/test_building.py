"""Building a deployment: what never ends on zeros is not warmed for ever."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from flexpie.core.program import MASTER, DeviceProgram, Part, Receive, Run, Send, SubgraphRef, Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.worker import building
from flexpie.worker.building import Builder
from flexpie.worker.deployment import Deployment
from flexpie.worker.engine import OnnxRuntimeEngine
from flexpie.worker.events import DeploymentBuilt, Event
from flexpie.worker.peer_watch import PeerWatches
from flexpie.worker.store import Store
from tests.integration.master_models import endless_loop
from tests.worker_programs import ref

VECTOR, SCALAR = Region.of((0, 4)), Region(())


def _deployment(model: bytes) -> Deployment:
    values = (
        Value("x", VECTOR, ElementType.FLOAT32),
        Value("go", SCALAR, ElementType.BOOL),
        Value("y", VECTOR, ElementType.FLOAT32),
    )
    steps = (Receive(0, MASTER, (0, 1)), Run(0, (0, 1), (2,)), Send(1, MASTER, (Part(2, VECTOR),)))
    program = DeviceProgram(0, values, steps, subgraphs=(SubgraphRef("loop", ref(model), ()),))
    return Deployment("d", program, "master", "loop", ("a",), 0, 0, {})


def test_warming_an_endless_loop_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "WARM_UP_SECONDS", 0.1)
    model = endless_loop(tmp_path / "loop.onnx", ends_on=True).read_bytes()
    store = Store(tmp_path / "store")
    (store.folder / ref(model).sha256).write_bytes(model)
    store = Store(tmp_path / "store")

    async def build() -> None:
        built: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        builder = Builder(store, OnnxRuntimeEngine(), [], PeerWatches([]), built.set_result)
        resources = builder.start(_deployment(model), {})
        assert await asyncio.wait_for(built, 30) == DeploymentBuilt("d")
        (y,) = resources.sessions[0].run([np.ones(4, np.float32), np.array(True)])
        assert y.tolist() == [1, 1, 1, 1]
        builder.free("d", resources)
        await builder.close()
        assert not resources.sessions

    asyncio.run(build())


def test_the_sessions_of_a_deployment_that_is_freed_are_gone_at_once_and_what_is_free_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(building, "return_free_memory", lambda: returned.put(threading.current_thread().name))
    model = endless_loop(tmp_path / "loop.onnx", ends_on=False).read_bytes()
    Store(tmp_path / "store")
    (tmp_path / "store" / ref(model).sha256).write_bytes(model)
    store = Store(tmp_path / "store")

    async def build() -> None:
        built: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        builder = Builder(store, OnnxRuntimeEngine(), [], PeerWatches([]), built.set_result)
        resources = builder.start(_deployment(model), {})
        assert await asyncio.wait_for(built, 30) == DeploymentBuilt("d")
        session = weakref.ref(resources.sessions[0])
        builder.free("d", resources)
        assert session() is None
        thread = await asyncio.to_thread(returned.get, timeout=30)
        assert thread.startswith("build"), "not the thread that requests wait for"
        await builder.close()

    asyncio.run(build())
