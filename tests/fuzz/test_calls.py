"""Real daemons, called with bad input: each call ends soon, refused with a typed error, and nothing stays of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from flexpie.client import Client
from flexpie.core.errors import ErrorCode
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.status import CODE_KEY
from flexpie.wire.v1 import open_inference_pb2 as pb
from flexpie.wire.v1 import worker_pb2, worker_pb2_grpc
from tests.conftest import LONG
from tests.daemons import Daemon, LocalCluster, local_cluster, wait_until
from tests.fuzz.calls import Call, master_calls, worker_calls
from tests.integration import master_models as models

pytestmark = pytest.mark.timeout(7200 if LONG else 400)

CASES = 2500 if LONG else 60
"""Of each call."""
CALL_SECONDS = 30.0
"""A call that takes longer hangs."""
MOST_GROWTH_BYTES = 48 << 20
MOST_MORE_FILES = 24
"""Descriptors: gRPC keeps connections for a while."""
LASTING = {"/flexpie.wire.v1.MasterService/TraceModel", "/flexpie.wire.v1.WorkerService/Trace"}
"""Calls that are answered for as long as the caller likes."""
_UNTYPED = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}
SEED = random.randrange(2**32) if LONG else 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    models.convolutions(folder / "conv.onnx")
    with local_cluster(folder, 2, "models:\n- {path: conv.onnx, scheme: InH}\n") as running:
        with Client(running.address, timeout=60.0) as client:
            wait_until(lambda: client.ready("conv"), "conv is ready")
        yield running


def test_the_master_refuses_bad_input_and_goes_on(cluster: LocalCluster) -> None:
    with grpc.insecure_channel(cluster.address) as channel:
        _hammer(channel, master_calls(), cluster.master)
    _assert_well(cluster)


def test_a_worker_refuses_bad_input_and_goes_on(cluster: LocalCluster) -> None:
    worker = cluster.workers["a"]
    with grpc.insecure_channel(worker.address) as channel:
        _hammer(channel, worker_calls(cluster.workers["b"].address), worker)
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        stub.Undeploy(worker_pb2.UndeployRequest(deployment_id="fuzz"))
        status = stub.WorkerStatus(worker_pb2.WorkerStatusRequest())
    assert not any(deployment.requests_in_flight for deployment in status.deployments)
    _assert_well(cluster)


def _hammer(channel: grpc.Channel, calls: list[Call], daemon: Daemon) -> None:
    process = psutil.Process(daemon.process.pid)
    _all(channel, calls, 0, CASES // 3, daemon)
    memory, files = process.memory_info().rss, process.num_fds()
    outcomes = _all(channel, calls, CASES // 3, CASES, daemon)
    assert len(outcomes) > 4, outcomes
    assert process.memory_info().rss - memory < MOST_GROWTH_BYTES
    assert process.num_fds() - files < MOST_MORE_FILES
    assert "defect while" not in daemon.log
    assert "Traceback" not in daemon.log


def _all(channel: grpc.Channel, calls: list[Call], start: int, stop: int, daemon: Daemon) -> Counter[str]:
    """Cases in turn, so that what one call leaves meets all others."""
    outcomes: Counter[str] = Counter()
    for number in range(start, stop):
        for call in calls:
            draw = random.Random(f"{SEED}:{call.path}:{number}")
            messages, metadata = call.messages(draw), draw.choice(call.metadata)
            outcome = _ask(channel, call, messages, metadata)
            where = f"{call.path} number {number} with seed {SEED}: {outcome}\n{[item[:500] for item in messages]}"
            assert outcome not in {status.name for status in _UNTYPED}, f"{where}\n{daemon.log[-3000:]}"
            assert daemon.process.poll() is None, where
            outcomes[outcome] += 1
    return outcomes


def _ask(channel: grpc.Channel, call: Call, messages: list[bytes], metadata: tuple[tuple[str, str], ...]) -> str:
    """The code of the error that a call ended with, or the status where it has none."""
    raw: Any = channel  # without serializers, calls send bytes and return bytes
    try:
        if call.request_streaming and call.response_streaming:
            list(raw.stream_stream(call.path)(iter(messages), timeout=CALL_SECONDS, metadata=metadata))
        elif call.request_streaming:
            raw.stream_unary(call.path)(iter(messages), timeout=CALL_SECONDS, metadata=metadata)
        elif call.response_streaming:
            replies = raw.unary_stream(call.path)(messages[0], timeout=CALL_SECONDS, metadata=metadata)
            if call.path in LASTING:
                next(replies, None)
                replies.cancel()
            else:
                list(replies)
        else:
            raw.unary_unary(call.path)(messages[0], timeout=CALL_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        ended: Any = error
        code = dict(ended.trailing_metadata() or ()).get(CODE_KEY)
        if code in ErrorCode.__members__ and code != ErrorCode.INTERNAL.value:
            return str(code)
        return str(ended.code().name)
    return "OK"


def _assert_well(cluster: LocalCluster) -> None:
    """The model is loaded again if a call has unloaded it, and answers rightly; nothing is in flight."""
    with grpc.insecure_channel(cluster.address) as channel:
        OpenInferenceStub(channel).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="conv"), timeout=60.0)
    with Client(cluster.address, timeout=60.0) as client:
        wait_until(lambda: client.ready("conv"), "conv is ready")
        image = models.random_image()
        expected = models.run_unsplit(cluster.folder / "conv.onnx", {"image": image})["scores"]
        np.testing.assert_allclose(client.infer("conv", {"image": image})["scores"], expected, atol=1e-4)
        wait_until(lambda: client.status().requests_in_flight == 0, "the master forgot every request")
