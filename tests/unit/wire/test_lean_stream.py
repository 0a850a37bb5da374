"""Both ends of a lean stream understand each other, however the network cuts what they say, and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire import http2
from flexpie.wire.http2 import ErrorNumber, FrameType
from flexpie.wire.outbox import MAX_QUEUED_BYTES
from tests.fuzz.mutating import mutated
from tests.unit.wire.streaming import End

REQUEST = [(b":path", b"/s/m"), (b"key", b"value")]
ANSWER = [(b":status", b"200")]
messages = st.lists(st.integers(0, 70_000).map(lambda size: random.Random(size).randbytes(size)), max_size=4)
pieces = st.lists(st.integers(1, 20_000), max_size=30)


def talking(max_message_bytes: int = 2**20) -> tuple[End, End]:
    """A client and a server that has taken its call."""
    client = End(is_client=True, max_message_bytes=max_message_bytes)
    server = End(is_client=False, answer=ANSWER, max_message_bytes=max_message_bytes)
    client.stream.send_headers(REQUEST)
    server.receive(client.wires.take())
    client.receive(server.wires.take())
    server.receive(client.wires.take())
    assert (server.user.headers, client.user.headers) == (REQUEST, ANSWER)
    return client, server


@given(messages, messages, pieces, pieces)
def test_messages_arrive_whole_and_in_order(
    there: list[bytes], back: list[bytes], first_pieces: list[int], second_pieces: list[int]
) -> None:
    client, server = talking()
    for message in there:
        client.stream.put(message)
    server.receive(client.wires.take(), first_pieces)
    for message in back:
        server.stream.put(message)
    server.stream.finish([(b"grpc-status", b"0")])
    client.receive(server.wires.take(), second_pieces)
    assert server.user.messages == there
    assert client.user.messages == back
    assert client.user.ends == [([(b"grpc-status", b"0")], "")]
    assert server.wires.is_closed


@given(st.integers(0, 3000), st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_no_more_is_sent_than_the_other_end_takes(size: int, grants: list[int]) -> None:
    client = End(is_client=True)
    client.stream.send_headers(REQUEST)
    client.receive(http2.frame(FrameType.SETTINGS, 0, 0, b"\x00\x04" + (0).to_bytes(4, "big")))
    client.wires.take()
    client.stream.put(bytes(size))
    sent, allowed, server = 0, 0, End(is_client=False)
    server.receive(http2.PREFACE + http2.headers(1, REQUEST))
    for grant in grants:
        written = client.wires.take()
        sent += sum(length for kind, length in _frames(written) if kind == FrameType.DATA)
        server.receive(written)
        assert sent == min(allowed, size + 5)
        client.receive(http2.window_update(1, grant))
        allowed += grant
    server.receive(client.wires.take())
    assert server.user.messages == ([bytes(size)] if allowed >= size + 5 else [])


def _frames(written: bytes) -> list[tuple[int, int]]:
    found, at = [], 0
    while at < len(written):
        header = http2.read_frame_header(written, at)
        found.append((header.kind, header.length))
        at += http2.FRAME_HEADER_BYTES + header.length
    return found


def test_messages_above_the_limit_are_refused_on_both_sides() -> None:
    client, server = talking(max_message_bytes=1000)
    with pytest.raises(FlexPieError) as raised:
        client.stream.put(bytes(1001))
    assert raised.value.code is ErrorCode.TOO_LARGE
    server.receive(http2.frame(FrameType.DATA, 0, 1, b"\x00" + (1001).to_bytes(4, "big")))
    (end,) = server.user.ends
    assert end[0] is None
    assert "1001 bytes" in end[1]
    assert server.wires.is_closed


def test_pings_are_answered() -> None:
    client, server = talking()
    server.receive(http2.frame(FrameType.PING, 0, 0, b"12345678"))
    assert http2.frame(FrameType.PING, http2.ACK, 0, b"12345678") in server.wires.take()
    assert not client.user.ends


def test_who_takes_no_answers_is_cut_off() -> None:
    _, server = talking()
    server.wires.buffered = MAX_QUEUED_BYTES + 1
    server.receive(http2.frame(FrameType.PING, 0, 0, b"12345678"))
    assert server.user.ends == [(None, "it does not speak gRPC: it takes no answers")]
    assert server.wires.is_closed


def test_a_stream_that_is_reset_or_lost_has_ended_once() -> None:
    client, server = talking()
    server.receive(http2.reset(1, ErrorNumber.CANCEL))
    server.stream.connection_lost(None)
    client.stream.connection_lost(OSError("cable"))
    client.stream.connection_lost(None)
    assert server.user.ends == [(None, "it ended the stream (error 8)")]
    assert client.user.ends == [(None, "the connection broke: cable")]
    for end in (client, server):
        with pytest.raises(FlexPieError) as raised:
            end.stream.put(b"late")
        assert raised.value.code is ErrorCode.DEVICE_UNREACHABLE


def test_who_aborts_hears_nothing_more() -> None:
    client, server = talking()
    client.stream.abort()
    server.receive(client.wires.take())
    client.stream.connection_lost(None)
    assert client.user.ends == []
    assert server.user.ends == [(None, "it ended the stream (error 8)")]


def test_an_error_without_an_answer_is_an_end() -> None:
    client = End(is_client=True)
    client.receive(http2.opening() + http2.headers(1, [(b"grpc-status", b"9")], http2.END_STREAM))
    assert client.user.headers is None
    assert client.user.ends == [([(b"grpc-status", b"9")], "")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" + bytes(20), "begins with something else"),
        (http2.PREFACE + http2.frame(FrameType.DATA, 0, 1, b"x"), "data where none belongs"),
        (http2.PREFACE + http2.frame_header(20_000, FrameType.HEADERS, 0, 1), "a frame of 20000 bytes"),
        (http2.PREFACE + http2.headers(1, REQUEST) + http2.headers(3, REQUEST), "a second stream"),
        (http2.PREFACE + http2.headers(1, REQUEST) + http2.headers(1, REQUEST), "headers in the middle"),
        (
            http2.PREFACE + http2.headers(1, REQUEST) + http2.frame(FrameType.DATA, 0, 1, b"\x01" + bytes(4)),
            "compressed",
        ),
        (http2.PREFACE + http2.headers(1, REQUEST, http2.PADDED), "padded"),
        (http2.PREFACE + http2.frame(FrameType.CONTINUATION, 0, 1), "without a beginning"),
        (http2.PREFACE + http2.frame(FrameType.PUSH_PROMISE, 0, 1), "a promise"),
        (http2.PREFACE + http2.frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(4)), "does not grow"),
        (
            http2.PREFACE + http2.frame(FrameType.HEADERS, 0, 1) + http2.frame(FrameType.PING, 0, 0, bytes(8)),
            "complete",
        ),
    ],
)
def test_what_is_no_grpc_ends_the_connection(data: bytes, reason: str) -> None:
    server = End(is_client=False, answer=ANSWER)
    server.receive(data)
    (end,) = server.user.ends
    assert end[0] is None
    assert reason in end[1]
    assert server.wires.is_closed


@given(st.randoms(use_true_random=False), pieces)
def test_a_conversation_with_mistakes_is_read_or_ended(draw: random.Random, cuts: list[int]) -> None:
    client = End(is_client=True)
    client.stream.send_headers(REQUEST)
    for size in (0, 10, 300):
        client.stream.put(bytes(size))
    server = End(is_client=False, answer=ANSWER)
    server.receive(mutated(draw, client.wires.take()), cuts)
    assert len(server.user.ends) <= 1
    assert server.wires.is_closed == bool(server.user.ends and server.user.ends[0][0] is None)
