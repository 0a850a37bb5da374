"""Frames are exactly the protobuf encoding of peer.proto's Frame, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.framing import (
    ALIGNMENT,
    MAX_HEADER_BYTES,
    Cancel,
    Content,
    Data,
    Failure,
    Frame,
    decode_frame,
    encode_frame,
    unpack,
)
from flexpie.wire.v1 import peer_pb2

contents: st.SearchStrategy[Content] = st.one_of(
    st.builds(Data, st.integers(0, 2**32 - 1), st.integers(-1, 2**31 - 1)),
    st.builds(Cancel, st.text(max_size=300)),
    st.builds(Failure, st.sampled_from(ErrorCode), st.text(max_size=300), st.text(max_size=30)),
)
frames = st.builds(
    Frame,
    st.text(max_size=200),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    contents,
    st.binary(max_size=400).map(memoryview),
)


def encoded(frame: Frame, *parts: bytes) -> bytes:
    payload = parts or (bytes(frame.payload),)
    return encode_frame(frame.deployment_id, frame.request_id, frame.timeout_milliseconds, frame.content, payload)


def refused_or_read(read: Callable[[], object]) -> bool:
    """Whether a message is read, or refused in the one way that is meant for it."""
    try:
        read()
    except FlexPieError as error:
        return error.code is ErrorCode.CORRUPT_PACKAGE
    return True


@given(frames)
def test_what_is_encoded_is_decoded(frame: Frame) -> None:
    assert decode_frame(encoded(frame)) == frame


@given(frames)
def test_protobuf_writes_the_same_bytes(frame: Frame) -> None:
    message = encoded(frame)
    parsed = peer_pb2.Frame.FromString(message)
    assert parsed.SerializeToString(deterministic=True) == message
    assert parsed.payload == bytes(frame.payload)
    assert parsed.header.deployment_id == frame.deployment_id
    assert parsed.header.WhichOneof("kind") == type(frame.content).__name__.lower()


@given(frames)
def test_frames_that_protobuf_wrote_are_read(frame: Frame) -> None:
    header = peer_pb2.FrameHeader.FromString(peer_pb2.Frame.FromString(encoded(frame)).header.SerializeToString())
    header.ClearField("padding")
    assert decode_frame(peer_pb2.Frame(header=header, payload=bytes(frame.payload)).SerializeToString()) == frame


@given(frames, st.integers(1, 200))
def test_the_payload_is_aligned(frame: Frame, size: int) -> None:
    message = encoded(frame, bytes(size))
    assert (len(message) - size) % ALIGNMENT == 0


def test_parts_are_written_one_after_another() -> None:
    message = encode_frame("d", 1, 0, Data(0, 0), [b"ab", memoryview(b"cde"), bytearray(b"f")])
    assert bytes(decode_frame(message).payload) == b"abcdef"


def test_large_payloads_keep_their_length() -> None:
    message = encode_frame("d", 1, 0, Data(3, 1), [bytes(3_000_000)])
    assert len(decode_frame(message).payload) == 3_000_000
    assert len(peer_pb2.Frame.FromString(message).payload) == 3_000_000


@given(st.binary(max_size=300))
def test_garbage_is_refused(message: bytes) -> None:
    assert refused_or_read(lambda: decode_frame(message))


@given(frames, st.data())
def test_a_frame_that_is_cut_off_is_refused(frame: Frame, data: st.DataObject) -> None:
    message = encoded(frame, b"payload")
    with pytest.raises(FlexPieError) as raised:
        decode_frame(message[: data.draw(st.integers(0, len(message) - 1))])
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_a_lost_payload_is_not_taken_for_an_empty_one() -> None:
    header = peer_pb2.FrameHeader(deployment_id="d", payload_bytes=8)
    header.data.SetInParent()
    with pytest.raises(FlexPieError, match="payload has 0 bytes, the header says 8"):
        decode_frame(peer_pb2.Frame(header=header).SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        peer_pb2.Frame(payload=b"no header").SerializeToString(),
        peer_pb2.Frame(header=peer_pb2.FrameHeader(deployment_id="no kind")).SerializeToString(),
        peer_pb2.Frame(
            header=peer_pb2.FrameHeader(deployment_id="x" * MAX_HEADER_BYTES, cancel=peer_pb2.Cancel())
        ).SerializeToString(),
        encode_frame("d", 1, 0, Cancel("")) + b"\x1a\x01x",
    ],
)
def test_other_messages_are_refused(message: bytes) -> None:
    with pytest.raises(FlexPieError) as raised:
        decode_frame(message)
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_a_failure_of_an_unknown_kind_is_a_defect() -> None:
    header = peer_pb2.FrameHeader(failure=peer_pb2.Failure(code="NEWER_THAN_THIS", message="m"))
    content = decode_frame(peer_pb2.Frame(header=header).SerializeToString()).content
    assert content == Failure(ErrorCode.INTERNAL, "m")


def test_failures_carry_errors() -> None:
    error = FlexPieError(ErrorCode.OVERLOADED, "full", "wait")
    raised = Failure.of(error).error
    assert (raised.code, raised.message, raised.remedy) == (error.code, error.message, error.remedy)


def test_unpack_cuts_by_lengths() -> None:
    views = unpack(memoryview(b"abcdef"), [1, 0, 5])
    assert [bytes(view) for view in views] == [b"a", b"", b"bcdef"]
    with pytest.raises(FlexPieError, match="6 bytes where 7 were expected"):
        unpack(memoryview(b"abcdef"), [3, 4])
