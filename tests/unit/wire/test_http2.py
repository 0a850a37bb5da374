"""Frames and header blocks are those of the RFCs: another implementation reads them."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.wire import http2
from flexpie.wire.http2 import FrameType, ProtocolError

fields = st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.binary(max_size=300)), max_size=8)


@given(st.integers(0, 2**24 - 1), st.sampled_from(FrameType), st.integers(0, 255), st.integers(0, 2**31 - 1))
def test_a_frame_header_is_read_as_it_was_written(length: int, kind: FrameType, flags: int, stream: int) -> None:
    written = http2.frame_header(length, kind, flags, stream)
    assert len(written) == http2.FRAME_HEADER_BYTES
    assert http2.read_frame_header(b"xx" + written, 2) == (length, kind, flags, stream)


@given(fields)
def test_header_blocks_are_read_by_hpack(wanted: http2.Fields) -> None:
    assert [tuple(pair) for pair in hpack.Decoder(2**20).decode(http2.header_block(wanted), raw=True)] == wanted


def test_a_long_header_block_is_continued() -> None:
    written = http2.headers(1, [(b"name", bytes(40_000))], http2.END_STREAM)
    kinds, at = [], 0
    while at < len(written):
        header = http2.read_frame_header(written, at)
        kinds.append((header.kind, header.flags))
        at += http2.FRAME_HEADER_BYTES + header.length
    assert kinds == [
        (FrameType.HEADERS, http2.END_STREAM),
        (FrameType.CONTINUATION, 0),
        (FrameType.CONTINUATION, http2.END_HEADERS),
    ]


def test_settings_of_a_wrong_length_are_refused() -> None:
    with pytest.raises(ProtocolError, match="wrong length"):
        list(http2.read_settings(bytes(7)))
