"""The leak check names every kind of thing it promises to see, and waits for what goes away by itself."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.leaks import leaked_since, take_snapshot


@contextmanager
def _thread() -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten", daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextmanager
def _child_process() -> Iterator[None]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # Popen returns while the kernel is still laying out the new program: its name shows once it answers.
        child.stdin.write(b"\n")
        assert child.stdout.read(1) == b"\n"
        yield


@contextmanager
def _listening_socket() -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)):
        yield


@contextmanager
def _open_file() -> Iterator[None]:
    with Path(__file__).open():
        yield


@pytest.mark.parametrize(
    ("hold", "named"),
    [
        (_thread, r"thread 'forgotten'.*"),
        (_child_process, r"child process \d+ \(.*\): cat"),
        (_listening_socket, r"socket \d+: 127\.0\.0\.1:\d+ -> \*"),
        (_open_file, r"file \d+: .*test_leaks\.py"),
    ],
)
def test_a_thing_still_held_is_named(hold: Callable[[], AbstractContextManager[None]], named: str) -> None:
    before = take_snapshot()
    with hold():
        (line,) = leaked_since(before, vanish_seconds=0).describe()
    assert re.fullmatch(named, line)
    assert not leaked_since(before)


def test_a_thing_that_goes_in_time_is_no_leak() -> None:
    before = take_snapshot()
    release = threading.Event()
    threading.Thread(target=release.wait).start()
    threading.Timer(0.05, release.set).start()
    assert not leaked_since(before)


class _Echo(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def test_closed_grpc_leaves_nothing_behind() -> None:
    before = take_snapshot()
    with futures.ThreadPoolExecutor(1) as executor:
        server = grpc.server(executor, handlers=[_Echo()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/Echo")
            assert echo(b"hello") == b"hello"
        server.stop(grace=None).wait()
    assert not leaked_since(before)


def test_closed_asyncio_grpc_leaves_nothing_behind() -> None:
    async def call() -> bytes:
        server = grpc.aio.server(handlers=[_Echo()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/Echo")
            answer = await echo(b"hello")
        await server.stop(grace=None)
        return answer

    before = take_snapshot()
    assert asyncio.run(call()) == b"hello"
    assert not leaked_since(before)
