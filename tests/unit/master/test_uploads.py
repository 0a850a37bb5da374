"""Uploaded files lie where they should, within their limits, and are gone afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master.uploads import Upload


@pytest.fixture
def upload(tmp_path: Path) -> Iterator[Upload]:
    opened = Upload(tmp_path, 10)
    yield opened
    opened.remove()
    assert not opened.folder.exists()


def test_files_are_put_together_from_their_chunks(upload: Upload) -> None:
    upload.write("model.onnx", b"abc")
    upload.write("", b"de")
    upload.write("weights/w.bin", b"12345")
    upload.finish()
    assert upload.model_path.name == "model.onnx"
    assert upload.model_path.read_bytes() == b"abcde"
    assert (upload.folder / "weights/w.bin").read_bytes() == b"12345"
    assert upload.names == ["model.onnx", "weights/w.bin"]
    assert upload.hashes == [hashlib.sha256(content).hexdigest() for content in (b"abcde", b"12345")]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b", "x" * 300, "."])
def test_a_name_that_leads_elsewhere_is_refused(upload: Upload, name: str) -> None:
    with pytest.raises(FlexPieError) as caught:
        upload.write(name, b"x")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_file_is_written_once(upload: Upload) -> None:
    upload.write("a", b"x")
    with pytest.raises(FlexPieError, match="File exists"):
        upload.write("a", b"y")


def test_bytes_without_a_file_are_refused(upload: Upload) -> None:
    with pytest.raises(FlexPieError, match="no file name"):
        upload.write("", b"x")


def test_no_more_bytes_than_announced_are_taken(upload: Upload) -> None:
    upload.write("a", b"0123456789")
    with pytest.raises(FlexPieError) as caught:
        upload.write("", b"x")
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_disk_that_becomes_full_is_said(upload: Upload) -> None:
    upload.write("a", b"x")
    assert upload._open is not None
    upload._open.close()
    upload._open = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(FlexPieError, match="cannot keep the model: No space left") as caught:
        upload.write("", b"y")
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_file_is_no_folder(upload: Upload) -> None:
    upload.write("a", b"x")
    with pytest.raises(FlexPieError) as caught:
        upload.write("a/b", b"y")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_part_of_an_upload_is_not_one(upload: Upload) -> None:
    upload.write("a", b"012345678")
    with pytest.raises(FlexPieError, match="after 9 of 10 bytes"):
        upload.finish()


def test_a_model_over_the_limit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match="the limit is 9 bytes") as caught:
        Upload(tmp_path, 10, max_bytes=9)
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_a_model_that_the_disk_has_no_room_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlexPieError, match="are free in the master's state folder"):
        Upload(tmp_path, 1 << 60, max_bytes=1 << 61)
