"""Each call × {cancel, deadline, client gone, server shutdown} × {before, during, after}: nothing is left behind.

Asserted from the daemons' own counters: no tensor, request, upload, task or thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from flexpie.client import Client
from flexpie.client.messages import infer_request
from flexpie.core.program import MASTER, DeviceProgram, Receive, Send
from flexpie.wire.codec import program_to_proto
from flexpie.wire.limits import DEPLOYMENT_KEY, MASTER_KEY, MASTER_SOURCE, PROTOCOL, PROTOCOL_KEY, SOURCE_KEY
from flexpie.wire.open_inference import SERVICE as OPEN_INFERENCE
from flexpie.wire.v1 import (
    holdings_pb2,
    master_pb2,
    master_pb2_grpc,
    open_inference_pb2,
    peer_pb2,
    program_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from tests.daemons import Daemon, LocalCluster, local_cluster, wait_until
from tests.integration import master_models as models
from tests.integration.rpc_calls import Method, Script, Wire, begin, methods_of
from tests.worker_programs import part, value

SECONDS = 60.0
ENDS = ("cancel", "deadline", "gone")
MOMENTS = ("before", "during", "after")
EXECUTOR_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""asyncio's own threads stay when they have been needed once."""

MASTER_METHODS = methods_of([
    ("flexpie.wire.v1.MasterService", master_pb2.DESCRIPTOR.services_by_name["MasterService"]),
    (OPEN_INFERENCE, open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]),
])  # fmt: skip
WORKER_METHODS = methods_of([
    ("flexpie.wire.v1.WorkerService", worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]),
    ("flexpie.wire.v1.PeerService", peer_pb2.DESCRIPTOR.services_by_name["PeerService"]),
])  # fmt: skip

_ENDLESS = infer_request("loop", {"x": np.arange(4, dtype=np.float32), "go": np.array(True)})
_CHUNK = master_pb2.LoadRequest(chunk=master_pb2.FileChunk(file_name="broken.onnx", data=b"\xff" * 512))
_WAITS_FOR_ITS_PEER = DeviceProgram(0, (value("x", 0, 4),), (Receive(0, MASTER, (0,)), Send(1, 1, (part(0, 0, 4),))))
_BLOB = program_pb2.BlobRef(sha256="0" * 64, nbytes=8)

SCRIPTS = {
    "ModelInfer": Script([_ENDLESS]),
    "ModelStreamInfer": Script([_ENDLESS]),
    "ModelMetadata": Script([open_inference_pb2.ModelMetadataRequest(name="loop")]),
    "RepositoryModelLoad": Script([open_inference_pb2.RepositoryModelLoadRequest(model_name="loop")]),
    "RepositoryModelUnload": Script([open_inference_pb2.RepositoryModelUnloadRequest(model_name="unknown")]),
    "Load": Script(
        [
            master_pb2.LoadRequest(spec=master_pb2.LoadSpec(name="broken", total_bytes=1024)),
            _CHUNK,
            master_pb2.LoadRequest(chunk=master_pb2.FileChunk(data=b"\xff" * 512)),
        ],
        held=2,
    ),
    "Unload": Script([master_pb2.UnloadRequest(name="unknown")]),
    "TraceModel": Script([master_pb2.TraceModelRequest(name="loop")]),
    "Handshake": Script([worker_pb2.HandshakeRequest(protocol=PROTOCOL, version="test")]),
    "OfferBlobs": Script([worker_pb2.OfferBlobsRequest(blobs=[_BLOB])]),
    "PushBlobs": Script([worker_pb2.BlobChunk(blob=_BLOB, data=b"1234"), worker_pb2.BlobChunk(data=b"5678")], held=1),
    "Deploy": Script(
        [
            worker_pb2.DeployRequest(
                deployment_id="matrix",
                program=program_to_proto(_WAITS_FOR_ITS_PEER),
                peers={1: "127.0.0.1:1"},
                master_id="matrix",
            )
        ]
    ),
    "Undeploy": Script([worker_pb2.UndeployRequest(deployment_id="unknown")]),
    "Exchange": Script(
        [peer_pb2.Frame(header=peer_pb2.FrameHeader(deployment_id="unknown", request_id=1))],
        metadata=[
            (PROTOCOL_KEY, str(PROTOCOL)),
            (SOURCE_KEY, MASTER_SOURCE),
            (MASTER_KEY, "matrix"),
            (DEPLOYMENT_KEY, ""),
        ],
    ),
}
NEVER_END = {"ModelInfer", "ModelStreamInfer", "TraceModel", "Trace", "Beat", "Exchange", "Deploy", "CheckPeer"}
"""These last until somebody ends them, or for very long."""


def _name(method: Method) -> str:
    return method[1].name


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("matrix")
    models.endless_loop(folder / "loop.onnx")
    with local_cluster(folder, 1, "models: [{path: loop.onnx}]\n", ["--no-standby"]) as running:
        with Client(running.address, timeout=SECONDS) as client:
            wait_until(lambda: client.ready("loop"), "the model is ready")
        yield running


async def _holdings(address: str, *, master: bool) -> holdings_pb2.Holdings:
    async with grpc.aio.insecure_channel(address) as channel:
        if master:
            status = await master_pb2_grpc.MasterServiceStub(channel).MasterStatus(master_pb2.MasterStatusRequest())
            found: holdings_pb2.Holdings = status.holdings
            return found
        worker = await worker_pb2_grpc.WorkerServiceStub(channel).WorkerStatus(worker_pb2.WorkerStatusRequest())
        held: holdings_pb2.Holdings = worker.holdings
        return held


async def _until_clean(address: str, idle: holdings_pb2.Holdings, *, master: bool) -> None:
    deadline = asyncio.get_running_loop().time() + SECONDS
    while True:
        held = await _holdings(address, master=master)
        counts = (held.requests, held.waiting, held.request_bytes, held.tensors, held.uploads)
        if counts == (0, 0, 0, 0, 0) and held.tasks <= idle.tasks:
            assert held.threads <= idle.threads + EXECUTOR_THREADS
            return
        assert asyncio.get_running_loop().time() < deadline, f"left behind: {held}, idle it was {idle}"
        await asyncio.sleep(0.02)


async def _make(address: str, method: Method, end: str, moment: str) -> None:
    """Make a call that ends in one way at one moment."""
    script, hold = SCRIPTS.get(_name(method), Script()), moment == "during"
    early = {"before": 0.0005, "during": 0.3, "after": SECONDS}[moment]
    async with Wire(address) as wire, grpc.aio.insecure_channel(wire.address) as channel:
        if moment != "before" or end == "gone":
            await channel.channel_ready()
        timeout = early if end == "deadline" else SECONDS
        call = begin(channel, method, script, timeout_seconds=timeout, hold=hold)
        if moment == "during" and end != "deadline":
            await asyncio.sleep(0.05)  # some calls have ended by then: that is what "during" is for them
        if moment == "after":
            await (asyncio.sleep(0.1) if _name(method) in NEVER_END else call.finish())
        if end == "cancel":
            call.cancel()
        elif end == "gone":
            wire.cut()
        if end != "deadline" or moment != "after":
            await asyncio.wait_for(call.finish(), SECONDS)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("end", ENDS)
def test_calls_leave_nothing_behind(cluster: LocalCluster, end: str, moment: str) -> None:
    master, worker = cluster.address, cluster.workers["a"].address

    async def run() -> None:
        idle, idle_worker = await _holdings(master, master=True), await _holdings(worker, master=False)
        calls = [_make(master, method, end, moment) for method in MASTER_METHODS]
        calls += [_make(worker, method, end, moment) for method in WORKER_METHODS]
        await asyncio.gather(*calls)
        await _until_clean(master, idle, master=True)
        await _until_clean(worker, idle_worker, master=False)

    asyncio.run(run())
    with Client(master, timeout=SECONDS) as client:
        assert client.status().requests_in_flight == 0
        feeds = {"x": np.arange(4, dtype=np.float32), "go": np.array(False)}
        np.testing.assert_array_equal(client.infer("loop", feeds)["y"], feeds["x"])


async def _all_at_once(daemon: Daemon, methods: list[Method], moment: str) -> None:
    """Make every call and ask the daemon to end at that moment of them; each call ends, and so does the daemon."""
    async with grpc.aio.insecure_channel(daemon.address) as channel:
        await channel.channel_ready()
        calls = [
            begin(
                channel, method, SCRIPTS.get(_name(method), Script()), timeout_seconds=SECONDS, hold=moment == "during"
            )
            for method in methods
            if moment == "during" or _name(method) not in NEVER_END
        ]
        if moment == "during":
            await asyncio.sleep(0.2)
        elif moment == "after":
            await asyncio.gather(*(call.finish() for call in calls))
        daemon.process.terminate()
        await asyncio.wait_for(asyncio.gather(*(call.ended() for call in calls)), SECONDS)


@pytest.mark.parametrize("moment", MOMENTS)
def test_daemons_that_are_asked_to_end_do_so_whatever_is_called(tmp_path: Path, moment: str) -> None:
    models.endless_loop(tmp_path / "loop.onnx")
    bounds = ["--drain-seconds", "0.5"]
    with local_cluster(tmp_path, 1, "models: [{path: loop.onnx}]\n", [*bounds, "--no-standby"], bounds) as cluster:
        with Client(cluster.address, timeout=SECONDS) as client:
            wait_until(lambda: client.ready("loop"), "the model is ready")
        worker = cluster.workers["a"]
        for daemon, methods in ((cluster.master, MASTER_METHODS), (worker, WORKER_METHODS)):
            asyncio.run(_all_at_once(daemon, methods, moment))
            assert daemon.wait() == 0
            assert "defect" not in daemon.log
            if daemon is cluster.master:
                bound = holdings_pb2.Holdings(tasks=1000, threads=1000)
                asyncio.run(_until_clean(worker.address, bound, master=False))
