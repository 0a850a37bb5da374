"""A link keeps the connection to a worker up, and says at once when it is down."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from flexpie.compiler.blobs import Blob, blob_of
from flexpie.core.cluster import Device
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.heartbeat import Heartbeat
from flexpie.core.program import BlobRef
from flexpie.master import links, session
from flexpie.master.links import Presence, WorkerLink
from flexpie.wire import limits
from flexpie.wire.framing import Cancel, Data, Frame, encode_frame
from flexpie.wire.outbox import Outbox
from flexpie.wire.v1 import peer_pb2, worker_pb2
from flexpie.worker.door import Door
from flexpie.worker.streams import PeerServicer
from tests.unit.master.fake_worker import FakeWorker
from tests.unit.worker.taking import Taking

TIMEOUT = 20.0


class Listener:
    """Remembers what a link tells."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[worker_pb2.HandshakeReply | FlexPieError | Frame] = asyncio.Queue()
        self.reports: list[list[str]] = []

    def link_up(self, device: str, hello: worker_pb2.HandshakeReply) -> None:
        self.news.put_nowait(hello)

    def link_down(self, device: str, error: FlexPieError) -> None:
        self.news.put_nowait(error)

    def deployments(self) -> list[str]:
        return ["d-1"]

    def frame_arrived(self, device: str, frame: Frame) -> None:
        self.news.put_nowait(frame)

    def beat_arrived(self, device: str, beat: peer_pb2.BeatReply) -> None:
        self.reports.append(list(beat.unreachable))

    async def up(self) -> worker_pb2.HandshakeReply:
        """Wait until the link is up."""
        while True:
            news = await self.news.get()
            if isinstance(news, worker_pb2.HandshakeReply):
                return news

    async def down(self) -> FlexPieError:
        """Wait until the link is down."""
        while True:
            news = await self.news.get()
            if isinstance(news, FlexPieError):
                return news

    async def frame(self) -> Frame:
        """Wait for a frame."""
        while True:
            news = await self.news.get()
            if isinstance(news, Frame):
                return news


Scenario = Callable[[FakeWorker, WorkerLink, Listener], Awaitable[None]]


def _run(scenario: Scenario, dead_after_seconds: float = 10.0) -> None:
    async def run() -> None:
        worker, listener = FakeWorker(), Listener()
        await worker.start()
        link = WorkerLink(Device("pi", f"127.0.0.1:{worker.port}"), "master-1", listener, Heartbeat(dead_after_seconds))
        running = asyncio.create_task(link.run())
        try:
            await asyncio.wait_for(scenario(worker, link, listener), TIMEOUT)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await worker.stop()

    asyncio.run(run())


def test_frames_go_both_ways_in_order() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        hello = await listener.up()
        assert (hello.worker_id, hello.memory_bytes) == ("w", 5)
        worker.on_message = lambda message: [message]
        for exchange in range(50):
            link.send(encode_frame("d", 1, 0, Data(exchange, -1), [b"payload"]))
        for exchange in range(50):
            frame = await listener.frame()
            assert frame.content == Data(exchange, -1)
            assert bytes(frame.payload) == b"payload"
        (metadata,) = worker.stream_metadata
        assert metadata[limits.SOURCE_KEY] == "master"
        assert metadata[limits.MASTER_KEY] == "master-1"
        assert metadata[limits.PROTOCOL_KEY] == str(limits.PROTOCOL)

    _run(scenario)


def test_frames_go_through_the_door_where_there_is_one() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        taking = Taking()
        door = Door(cast("PeerServicer", taking))
        await door.open("localhost")
        await listener.up()  # without it
        worker.door_port = taking.door.port
        await worker.stop()
        await worker.start()
        await listener.down()
        await listener.up()
        caller, stream = await taking.streams.get()
        assert caller.master_id == "master-1"
        message = encode_frame("d", 1, 0, Data(0, -1), [b"payload"])
        link.send(message)
        assert await taking.messages.get() == message
        stream.put(message)
        assert bytes((await listener.frame()).payload) == b"payload"
        door.close()
        assert "broke" in (await listener.down()).message
        door.leave()

    _run(scenario)


def test_a_broken_connection_is_told_at_once_and_made_again() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        await worker.stop()
        error = await listener.down()
        assert error.code is ErrorCode.DEVICE_UNREACHABLE
        with pytest.raises(FlexPieError, match="not connected"):
            link.send(b"")
        assert await link.probe() is Presence.GONE
        await worker.start()
        await listener.up()
        assert await link.probe() is Presence.SERVING
        worker.leaving = True
        assert await link.probe() is Presence.LEAVING

    _run(scenario)


def test_another_protocol_is_refused_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "REFUSED_PAUSE_SECONDS", 0.05)

    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.protocol = 99
        await worker.stop()
        await worker.start()
        while (error := await listener.down()).code is not ErrorCode.VERSION_MISMATCH:
            pass
        assert "Device pi runs FlexPie 1 with protocol 99" in error.message
        assert error.remedy == "Install the same version on both."
        worker.protocol = limits.PROTOCOL  # upgraded
        await listener.up()

    _run(scenario)


def test_bytes_that_are_no_frame_end_the_connection() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.on_message = lambda message: [b"nonsense"]
        link.send(encode_frame("d", 1, 0, Cancel("")))
        assert (await listener.down()).code is ErrorCode.CORRUPT_PACKAGE

    _run(scenario)


def test_a_worker_that_misses_heartbeats_is_lost() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.silent = True
        error = await listener.down()
        assert "it did not answer for 0.5 s" in error.message
        worker.silent = False
        await listener.up()

    _run(scenario, dead_after_seconds=0.5)


def test_a_worker_says_which_peers_it_does_not_reach() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        worker.unreachable = ["10.0.0.7:50051"]
        await listener.up()
        while not listener.reports:
            await asyncio.sleep(0)
        assert listener.reports[0] == ["10.0.0.7:50051"]
        assert not await link.check_peer("10.0.0.7:50051")
        assert await link.check_peer("10.0.0.8:50051")

    _run(scenario)


def test_a_probe_that_is_not_answered_ends_the_connection() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.silent = True
        assert await link.probe() is Presence.GONE
        await listener.down()

    _run(scenario, dead_after_seconds=0.5)


def _blobs(*contents: bytes) -> list[Blob]:
    return [blob_of(lambda content=content: memoryview(content)) for content in contents]  # type: ignore[misc]


def test_only_missing_blobs_are_pushed_chunk_by_chunk() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        large = bytes(range(256)) * (limits.CHUNK_BYTES // 100)
        known, *unknown = blobs = _blobs(b"known", large, b"", b"small")
        worker.blobs[known.ref.sha256] = b"known"
        assert await link.missing(blobs) == unknown
        pushed: list[int] = []
        await link.push(unknown, pushed.append)
        assert sum(pushed) == len(large) + len(b"small")
        assert max(pushed) == limits.CHUNK_BYTES
        assert worker.blobs[unknown[0].ref.sha256] == large
        assert await link.missing(blobs) == []

    _run(scenario)


def test_weights_that_cannot_be_read_are_our_error() -> None:
    def unreadable() -> memoryview:
        raise FlexPieError(ErrorCode.INVALID_MODEL, "The weights are gone.")

    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        with pytest.raises(FlexPieError, match="The weights are gone"):
            await link.push([Blob(BlobRef("0" * 64, 5), unreadable)], lambda nbytes: None)
        assert await link.probe() is Presence.SERVING

    _run(scenario)


def test_what_a_worker_refuses_a_deployment_with_is_passed_on() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.refusal = ErrorCode.OUT_OF_MEMORY, "The program takes 9 bytes; 5 are left.", "Use more devices."
        with pytest.raises(FlexPieError) as caught:
            await link.deploy(worker_pb2.DeployRequest(deployment_id="d"))
        assert (caught.value.code, caught.value.message, caught.value.remedy) == worker.refusal
        worker.refusal = None
        assert (await link.deploy(worker_pb2.DeployRequest(deployment_id="d"))).resident_bytes == 3
        await link.undeploy("d")
        assert worker.undeployed == ["d"]

    _run(scenario)


def test_a_call_on_its_way_ends_with_the_connection() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.silent = True
        probing = asyncio.create_task(link.probe())
        await asyncio.sleep(0)
        await worker.stop()
        assert await probing is Presence.GONE
        await link.undeploy("d")

    _run(scenario)


def test_a_message_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MESSAGE_BYTES", 10)

    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        with pytest.raises(FlexPieError) as caught:
            link.send(bytes(11))
        assert caught.value.code is ErrorCode.TOO_LARGE

    _run(scenario)


def test_a_message_over_the_workers_limit_does_not_end_the_connection() -> None:
    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        worker.max_message_bytes = 40
        await worker.stop()
        await worker.start()
        await listener.down()
        await listener.up()
        with pytest.raises(FlexPieError) as caught:
            link.send(bytes(41))
        assert caught.value.code is ErrorCode.TOO_LARGE
        assert "--max-message-bytes" in caught.value.remedy
        worker.on_message = lambda message: [message]
        link.send(encode_frame("d", 1, 0, Cancel("")))
        assert (await listener.frame()).content == Cancel("")

    _run(scenario)


def test_what_a_worker_does_not_take_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "Outbox", functools.partial(Outbox, max_queued_bytes=100))

    async def scenario(worker: FakeWorker, link: WorkerLink, listener: Listener) -> None:
        await listener.up()
        link.send(bytes(60))  # nothing is written before the loop gets its turn
        with pytest.raises(FlexPieError, match="Device pi: ") as caught:
            link.send(bytes(60))
        assert caught.value.code is ErrorCode.OVERLOADED

    _run(scenario)
