"""Real worker processes: what they do for a master, and how they take what goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from flexpie import __version__
from flexpie.cli.health_command import health
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import MASTER, BlobRef, Send
from flexpie.wire.framing import Data, Failure, encode_frame
from flexpie.wire.limits import PROTOCOL, PROTOCOL_KEY, SOURCE_KEY
from flexpie.wire.tensors import array_to_bytes
from flexpie.wire.v1 import worker_pb2
from tests.daemons import Daemon, start_worker
from tests.integration.worker_driver import (
    Driver,
    blobs_of,
    driving,
    master_metadata,
    peer_metadata,
)
from tests.worker_programs import X, Z, onnx_package, part

PACKAGE = onnx_package()
FIRST = PACKAGE.programs[0]
MUTE = replace(
    FIRST, steps=tuple(step for step in FIRST.steps if not (isinstance(step, Send) and step.destination == 1))
)
WAITING = replace(PACKAGE, programs=(MUTE,))
"""Device 0 alone, which waits for a message of device 1 and sends it none."""
_deployments = (f"deployment-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    """Two workers that the tests below share; each test has its own deployment, and leaves them up."""
    folder = tmp_path_factory.mktemp("pair")
    with start_worker(folder, "anna") as anna, start_worker(folder, "bert") as bert:
        yield anna, bert


@pytest.fixture
def deployment() -> str:
    return next(_deployments)


def drive(scenario: Callable[[Driver], Coroutine[Any, Any, None]], *workers: Daemon) -> None:
    """Run a scenario with a driver for these workers."""

    async def bounded() -> None:
        async with driving(*(worker.address for worker in workers)) as driver:
            await asyncio.wait_for(scenario(driver), 90)

    asyncio.run(bounded())


async def error_of(awaitable: Awaitable[object]) -> FlexPieError:
    """The error that something fails with."""
    with pytest.raises(FlexPieError) as raised:
        await awaitable
    return raised.value


async def assert_works(driver: Driver, deployment: str, only: int | None = None) -> None:
    """The next good request succeeds."""
    await driver.deploy(PACKAGE, deployment + "-after", only)
    if only is None:
        np.testing.assert_array_equal(await driver.infer(deployment + "-after"), Z)


# Work.


def test_two_workers_answer(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        for factor in (1, -2):
            np.testing.assert_array_equal(await driver.infer(deployment, factor * X), factor * Z)
        status = await driver.deployment_status(0, deployment)
        assert status is not None
        assert status.ready
        assert (status.requests_done, status.frames_sent, status.frames_received) == (2, 4, 4)
        assert (status.bytes_sent, status.bytes_received) == (2 * (4 + 12), 2 * (16 + 4))

    drive(scenario, *pair)


def test_several_requests_are_in_flight_at_once(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        numbers = [driver.request_id() for _ in range(20)]
        for number in numbers:
            await driver.scatter(0, deployment, number, number * X)
        for number in reversed(numbers):
            await driver.scatter(1, deployment, number, number * X)
        for index, expected in ((0, Z[:3]), (1, Z[3:])):
            results = dict([await driver.gather(index) for _ in numbers])
            assert sorted(results) == numbers
            for number, result in results.items():
                np.testing.assert_array_equal(result, number * expected)

    drive(scenario, *pair)


def test_a_worker_says_who_it_is(pair: tuple[Daemon, Daemon]) -> None:
    async def scenario(driver: Driver) -> None:
        request = worker_pb2.HandshakeRequest(version=__version__, protocol=PROTOCOL)
        replies = [await driver.call(index, "Handshake", request) for index in (0, 1)]
        assert replies[0].worker_id != replies[1].worker_id
        assert replies[0].version == __version__
        assert (replies[0].threads, replies[0].memory_bytes) == (1, 0)
        assert replies[0].onnxruntime_version

    drive(scenario, *pair)


def test_health_and_reflection(pair: tuple[Daemon, Daemon]) -> None:
    with grpc.insecure_channel(pair[0].address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "flexpie.wire.v1.WorkerService", "flexpie.wire.v1.PeerService"):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=30)
        services = {service.name for service in listed.list_services_response.service}
        assert services >= {"flexpie.wire.v1.WorkerService", "flexpie.wire.v1.PeerService", "grpc.health.v1.Health"}


def test_the_health_command_asks_a_daemon(pair: tuple[Daemon, Daemon]) -> None:
    good = CliRunner().invoke(health, [pair[0].address])
    assert (good.exit_code, good.stdout) == (0, "serving\n")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        bad = CliRunner().invoke(health, [f"127.0.0.1:{deaf.getsockname()[1]}"])
    assert bad.exit_code == 1
    assert bad.stderr.startswith("unreachable: 127.0.0.1:")


def test_a_restarted_worker_is_the_same_and_keeps_its_blobs(tmp_path: Path, deployment: str) -> None:
    ids, program = [], PACKAGE.programs[0]

    async def scenario(driver: Driver) -> None:
        hello = await driver.call(0, "Handshake", worker_pb2.HandshakeRequest(protocol=PROTOCOL))
        ids.append(hello.worker_id)
        missing = await driver.missing(0, program)
        assert bool(missing) == (len(ids) == 1)
        await driver.push(0, {blob: PACKAGE.blobs[blob.sha256] for blob in blobs_of(program)})

    for _ in range(2):
        with start_worker(tmp_path, "anna") as anna:
            drive(scenario, anna)
    assert ids[0] == ids[1]


# Failures, each of which leaves the worker up.


def test_another_version_is_refused(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        request = worker_pb2.HandshakeRequest(version="99.0", protocol=99)
        error = await error_of(driver.call(0, "Handshake", request))
        assert error.code is ErrorCode.VERSION_MISMATCH
        assert "99.0" in error.message
        assert __version__ in error.message
        stream = driver.open_stream(0, {**master_metadata(), PROTOCOL_KEY: "99"})
        assert (await error_of(stream.receive())).code is ErrorCode.VERSION_MISMATCH
        await assert_works(driver, deployment)

    drive(scenario, *pair)


@pytest.mark.parametrize("metadata", [{SOURCE_KEY: ""}, {SOURCE_KEY: "-5"}, {SOURCE_KEY: "0"}, {SOURCE_KEY: "9" * 40}])
def test_a_stream_must_say_whose_it_is(pair: tuple[Daemon, Daemon], metadata: dict[str, str]) -> None:
    async def scenario(driver: Driver) -> None:
        stream = driver.open_stream(0, {PROTOCOL_KEY: str(PROTOCOL), **metadata})
        assert (await error_of(stream.receive())).code is ErrorCode.INVALID_ARGUMENT

    drive(scenario, *pair)


def test_a_corrupt_blob_is_refused(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        good = BlobRef("0" * 64, 5)
        for content in (b"wrong", b"long wrong", b"", b"no"):
            error = await error_of(driver.push(0, {good: content}))
            assert error.code is ErrorCode.CORRUPT_PACKAGE
        orphan = [worker_pb2.BlobChunk(data=b"of nothing")]
        assert (await error_of(driver.call(0, "PushBlobs", orphan))).code is ErrorCode.CORRUPT_PACKAGE
        await assert_works(driver, deployment)

    drive(scenario, *pair)


def test_a_package_without_its_blobs_is_refused(tmp_path: Path, deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        request = driver.deploy_request(PACKAGE.programs[0], deployment, peers={1: driver.addresses[0]})
        error = await error_of(driver.call(0, "Deploy", request))
        assert error.code is ErrorCode.CORRUPT_PACKAGE
        assert "not in the store" in error.message
        await assert_works(driver, deployment, only=0)

    with start_worker(tmp_path, "anna") as anna:
        drive(lambda driver: scenario(driver), anna, anna)


def test_a_program_that_makes_no_sense_is_refused(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        broken = replace(PACKAGE.programs[0], steps=(Send(0, MASTER, (part(0, 0, 1),)),))
        error = await error_of(driver.call(0, "Deploy", driver.deploy_request(broken, deployment)))
        assert error.code is ErrorCode.CORRUPT_PACKAGE
        request = driver.deploy_request(PACKAGE.programs[0], deployment)
        request.program.values[0].dtype = "float31"
        assert (await error_of(driver.call(0, "Deploy", request))).code is ErrorCode.CORRUPT_PACKAGE
        error = await error_of(driver.deploy(PACKAGE, deployment, peers={}))
        assert "does not tell the address of" in error.message
        await assert_works(driver, deployment)

    drive(scenario, *pair)


def test_a_deployment_that_does_not_fit_is_refused(tmp_path: Path, deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        error = await error_of(driver.deploy(PACKAGE, deployment))
        assert error.code is ErrorCode.OUT_OF_MEMORY
        assert "of 10 left" in error.message

    with start_worker(tmp_path, "anna", "--memory", "10") as anna:
        drive(scenario, anna, anna)


def test_a_message_that_is_too_large_ends_its_stream_only(tmp_path: Path, deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        large = encode_frame(deployment, 1, 0, Data(0, MASTER), [bytes(100_000)])
        await driver.workers[0].stream.send(large)
        error = await error_of(driver.workers[0].stream.receive())
        assert error.code is ErrorCode.TOO_LARGE
        assert "65536" in error.message
        chunk = worker_pb2.BlobChunk(blob=worker_pb2.BlobChunk().blob, data=bytes(100_000))
        assert (await error_of(driver.call(0, "PushBlobs", [chunk]))).code is ErrorCode.TOO_LARGE

    with start_worker(tmp_path, "anna", "--max-message-bytes", "64KiB") as anna, start_worker(tmp_path, "bert") as bert:
        drive(scenario, anna, bert)
        drive(lambda driver: assert_works(driver, deployment), anna, bert)


def test_the_deadline_passes(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        await driver.scatter(0, deployment, driver.request_id(), timeout=0.2)
        error = await error_of(driver.gather(0))
        assert error.code is ErrorCode.DEADLINE_EXCEEDED
        assert error.message == "The deadline passed on anna, which was waiting for bert."
        error = await error_of(driver.gather(1))  # it got anna's message
        assert error.message == "The deadline passed on bert, which was waiting for the master."
        await assert_works(driver, deployment)

    drive(scenario, *pair)


def test_a_cancelled_request_is_forgotten(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        number = driver.request_id()
        await driver.scatter(0, deployment, number)
        await driver.wait_for_request(0, deployment)
        await driver.cancel(0, deployment, number)
        status = await driver.wait_for_idle(0, deployment)
        assert (status.requests_done, status.requests_failed) == (0, 1)
        await driver.scatter(0, deployment, number)  # comes too late, and is dropped
        await driver.cancel(1, deployment, number)  # overtakes the input
        await driver.scatter(1, deployment, number)
        np.testing.assert_array_equal(await driver.infer(deployment), Z)

    drive(scenario, *pair)


def test_requests_of_a_master_that_is_gone_are_cancelled(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        await driver.scatter(0, deployment, driver.request_id())
        await driver.wait_for_request(0, deployment)
        driver.workers[0].stream.close()
        await driver.wait_for_idle(0, deployment)
        driver.workers[0].stream = driver.open_stream(0, master_metadata())
        np.testing.assert_array_equal(await driver.infer(deployment), Z)

    drive(scenario, *pair)


def test_a_message_for_an_unknown_deployment_is_refused(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.scatter(0, deployment, 7)
        frame = await driver.workers[0].stream.receive()
        assert frame.request_id == 7
        assert isinstance(frame.content, Failure)
        assert frame.content.code is ErrorCode.MODEL_NOT_READY
        stream = driver.open_stream(0, peer_metadata(1, deployment))
        await stream.send(encode_frame(deployment, 8, 0, Data(1, 1), [bytes(4)]))
        frame = await stream.receive()
        assert isinstance(frame.content, Failure)
        stream.close()
        await assert_works(driver, deployment)

    drive(scenario, *pair)


@pytest.mark.parametrize("message", [b"", b"garbage", encode_frame("d", 1, 0, Data(0, 5), [b"not from the master"])])
def test_nonsense_ends_its_stream_only(pair: tuple[Daemon, Daemon], deployment: str, message: bytes) -> None:
    async def scenario(driver: Driver) -> None:
        stream = driver.open_stream(0, master_metadata("somebody else"))
        await stream.send(message)
        assert (await error_of(stream.receive())).code is ErrorCode.CORRUPT_PACKAGE
        await assert_works(driver, deployment)

    drive(scenario, *pair)


def test_wrong_messages_fail_their_request(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        stream = driver.workers[0].stream
        for payload, text in ((bytes(15), "15 bytes instead of 16"), (b"", "0 bytes instead of 16")):
            await stream.send(encode_frame(deployment, driver.request_id(), 0, Data(0, MASTER), [payload]))
            error = await error_of(driver.gather(0))
            assert error.code is ErrorCode.CORRUPT_PACKAGE
            assert text in error.message
        number = driver.request_id()
        await driver.scatter(0, deployment, number)
        await driver.scatter(0, deployment, number)
        assert "came twice" in (await error_of(driver.gather(0))).message
        np.testing.assert_array_equal(await driver.infer(deployment), Z)

    drive(scenario, *pair)


def test_a_killed_peer_is_named_and_comes_back(tmp_path: Path, deployment: str) -> None:
    with start_worker(tmp_path, "anna") as anna, start_worker(tmp_path, "bert") as bert:
        port = bert.port

        async def before(driver: Driver) -> None:
            await driver.deploy(PACKAGE, deployment)
            np.testing.assert_array_equal(await driver.infer(deployment), Z)
            await driver.scatter(0, deployment, driver.request_id())
            await driver.wait_for_request(0, deployment)
            bert.kill()
            error = await error_of(driver.gather(0))
            assert error.code is ErrorCode.DEVICE_UNREACHABLE
            assert "bert" in error.message
            await driver.wait_for_idle(0, deployment)
            await driver.scatter(0, deployment, driver.request_id())  # bert is still away
            error = await error_of(driver.gather(0))
            assert error.code is ErrorCode.DEVICE_UNREACHABLE
            assert "bert" in error.message

        async def after(driver: Driver) -> None:
            assert await driver.missing(1, PACKAGE.programs[1]) == []
            # anna opens its stream again, but bert does not know the old deployment any more
            code = ErrorCode.DEVICE_UNREACHABLE
            while code is ErrorCode.DEVICE_UNREACHABLE:
                await driver.scatter(0, deployment, driver.request_id())
                code = (await error_of(driver.gather(0))).code
            assert code is ErrorCode.MODEL_NOT_READY
            await assert_works(driver, deployment)

        drive(before, anna, bert)
        with start_worker(tmp_path, "bert", port=port) as bert_again:
            drive(after, anna, bert_again)


def test_a_deployment_ends(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment)
        await driver.deploy(PACKAGE, deployment)  # it is there already
        request = worker_pb2.UndeployRequest(deployment_id=deployment)
        for _ in range(2):
            await driver.call(0, "Undeploy", request)
        assert await driver.deployment_status(0, deployment) is None
        await driver.scatter(0, deployment, driver.request_id())
        assert (await error_of(driver.gather(0))).code is ErrorCode.MODEL_NOT_READY
        await driver.call(1, "Undeploy", request)
        await driver.deploy(PACKAGE, deployment)
        np.testing.assert_array_equal(await driver.infer(deployment), Z)

    drive(scenario, *pair)


def test_a_deploy_that_is_given_up_leaves_nothing(pair: tuple[Daemon, Daemon], deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.deploy(PACKAGE, deployment + "-before")
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            peers = {1: f"127.0.0.1:{deaf.getsockname()[1]}"}
            request = driver.deploy_request(PACKAGE.programs[0], deployment, peers=peers)
            error = await error_of(driver.call(0, "Deploy", request, timeout_seconds=0.5))
            assert error.code is ErrorCode.DEADLINE_EXCEEDED
        while await driver.deployment_status(0, deployment) is not None:
            pass
        await assert_works(driver, deployment)

    drive(scenario, *pair)


# Start and end of the process.


def refused_start(folder: Path, *arguments: str, port: int = 0) -> str:
    """What a worker that cannot start says."""
    daemon = start_worker(folder, "refused", *arguments, port=port)
    assert daemon.wait(60) == 1
    (line,) = daemon.log.splitlines()
    assert line.startswith("flexpie-worker: ")
    return line


def test_a_port_that_is_taken(pair: tuple[Daemon, Daemon], tmp_path: Path, deployment: str) -> None:
    assert f"Port {pair[0].port} on 127.0.0.1 is in use" in refused_start(tmp_path, port=pair[0].port)
    drive(lambda driver: assert_works(driver, deployment), *pair)


def test_a_host_that_others_reach_needs_consent(tmp_path: Path) -> None:
    assert "--insecure" in refused_start(tmp_path, "--host", "0.0.0.0")
    with start_worker(tmp_path, "open", "--host", "0.0.0.0", "--insecure") as worker:
        assert worker.port


def test_a_state_folder_has_one_worker(tmp_path: Path) -> None:
    with start_worker(tmp_path, "anna") as anna:
        assert anna.port
        taken = str(tmp_path / "anna-state")
        assert "Another worker uses the state folder" in refused_start(tmp_path, "--state-dir", taken)


def health_of(worker: Daemon) -> Iterator[int]:
    """The worker's health, each time that it changes."""
    with grpc.insecure_channel(worker.address) as channel:
        for reply in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60):
            yield reply.status


@pytest.fixture
def anna(tmp_path: Path) -> Iterator[Daemon]:
    with start_worker(tmp_path, "anna", "--drain-seconds", "60") as worker:
        yield worker


async def begin_request(driver: Driver, deployment: str) -> int:
    """A request that waits for a peer's message."""
    await driver.deploy(WAITING, deployment)
    number = driver.request_id()
    await driver.scatter(0, deployment, number)
    await driver.wait_for_request(0, deployment)
    return number


async def wait_for_log(worker: Daemon, text: str) -> None:
    while text not in worker.log:
        await asyncio.sleep(0.01)


def test_sigterm_lets_requests_finish(anna: Daemon, deployment: str) -> None:
    watch = health_of(anna)
    assert next(watch) == health_pb2.HealthCheckResponse.SERVING

    async def scenario(driver: Driver) -> None:
        number = await begin_request(driver, deployment)
        anna.signal(signal.SIGTERM)
        assert await asyncio.to_thread(next, watch) == health_pb2.HealthCheckResponse.NOT_SERVING
        await wait_for_log(anna, "draining requests=1")
        await driver.scatter(0, deployment, driver.request_id())
        assert (await error_of(driver.gather(0))).code is ErrorCode.SHUTTING_DOWN
        error = await error_of(driver.deploy(WAITING, deployment + "-late"))
        assert error.code is ErrorCode.SHUTTING_DOWN
        peer = driver.open_stream(0, peer_metadata(1, deployment))
        await peer.send(encode_frame(deployment, number, 0, Data(1, 1), [array_to_bytes(X[4:5] * 2)]))
        finished, result = await driver.gather(0)
        assert finished == number
        np.testing.assert_array_equal(result, Z[:3])
        with pytest.raises(EOFError):
            await driver.workers[0].stream.receive()

    drive(scenario, anna)
    assert anna.wait() == 0
    watch.close()  # type: ignore[attr-defined]


def test_requests_that_do_not_finish_are_given_up(tmp_path: Path, deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await begin_request(driver, deployment)
        worker.signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
        assert "requests given up count=1" in worker.log

    with start_worker(tmp_path, "hasty", "--drain-seconds", "0.1") as worker:
        drive(scenario, worker)


def test_the_second_interrupt_leaves_at_once(anna: Daemon, deployment: str) -> None:
    async def scenario(driver: Driver) -> None:
        await begin_request(driver, deployment)
        anna.signal(signal.SIGINT)
        await wait_for_log(anna, "draining requests=1")
        anna.signal(signal.SIGINT)
        assert await asyncio.to_thread(anna.wait, 30) == 130

    drive(scenario, anna)
