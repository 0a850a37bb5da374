"""The store keeps what it was given, whole and correct, within its bound."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import BlobRef
from flexpie.worker.store import BlobWriter, Store
from tests.worker_programs import ref


def put(store: Store, content: bytes) -> BlobRef:
    blob = ref(content)
    writer = store.writer(blob)
    for start in range(0, len(content), 3):
        writer.write(content[start : start + 3])
    writer.commit()
    return blob


def finish(writer: BlobWriter, content: bytes) -> None:
    writer.write(content)
    writer.commit()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_blobs_lie_in_one_folder_named_by_their_hash(tmp_path: Path) -> None:
    store = Store(tmp_path / "blobs")
    blob, empty = put(store, b"content"), put(store, b"")
    assert names(store.folder) == {blob.sha256, empty.sha256}
    assert (store.folder / blob.sha256).read_bytes() == b"content"
    assert store.used_bytes == 7


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    known, unknown = put(store, b"known"), ref(b"unknown")
    assert store.missing([unknown, known, unknown]) == [unknown]
    assert store.missing([BlobRef(known.sha256, known.nbytes + 1)]) != []


def test_blobs_survive_a_restart(tmp_path: Path) -> None:
    blob = put(Store(tmp_path), b"content")
    assert Store(tmp_path).missing([blob]) == []


@pytest.mark.parametrize("damage", [b"CONTENT", b"cont", b""])
def test_a_blob_damaged_on_disk_is_missing(tmp_path: Path, damage: bytes) -> None:
    blob = put(Store(tmp_path), b"content")
    (tmp_path / blob.sha256).write_bytes(damage)
    store = Store(tmp_path)
    assert store.missing([blob]) == [blob]
    put(store, b"content")
    assert store.missing([blob]) == []


def test_uploads_that_were_cut_off_are_removed_at_start(tmp_path: Path) -> None:
    writer = Store(tmp_path).writer(ref(b"content"))
    writer.write(b"con")
    writer.abort()
    (tmp_path / "incoming-x").write_bytes(b"con")
    Store(tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("written", "text"), [(b"cont", "has 4 bytes instead of 7"), (b"CONTENT", "hash"), (b"content!", "more than")]
)
def test_wrong_content_is_refused_and_leaves_nothing(tmp_path: Path, written: bytes, text: str) -> None:
    store, blob = Store(tmp_path), ref(b"content")
    writer = store.writer(blob)
    with pytest.raises(FlexPieError, match=text) as raised:
        finish(writer, written)
    writer.abort()
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE
    assert names(tmp_path) == set()
    assert store.missing([blob]) == [blob]


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=10)
    a, b, c = (put(store, content) for content in (b"aaaa", b"bbbb", b"c"))
    assert store.missing([a]) == []  # uses it
    d = put(store, b"dddd")
    assert store.missing([a, b, c, d]) == [b]
    assert store.used_bytes == 9


def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = put(store, b"old"), put(store, b"new")
    os.utime(tmp_path / old.sha256, (1, 1))
    again = Store(tmp_path, limit_bytes=8)
    put(again, b"third")
    assert again.missing([old, new]) == [old]


def test_pinned_blobs_stay(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=8)
    a = put(store, b"aaaa")
    store.pin("deployment", [a])
    b, c = put(store, b"bbbb"), put(store, b"cccc")
    assert store.missing([a, b, c]) == [b]
    store.unpin("deployment")
    put(store, b"dddddddd")
    assert store.missing([a]) == [a]


def test_what_can_never_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=8)
    store.pin("deployment", [put(store, b"aaaa")])
    with pytest.raises(
        FlexPieError, match=r"no room for 5 bytes: its limit is 8 bytes, and deployments use 4"
    ) as raised:
        store.writer(ref(b"bbbbb"))
    assert raised.value.code is ErrorCode.TOO_LARGE
    put(store, b"bbbb")


def test_two_uploads_of_one_blob_do_not_disturb_each_other(tmp_path: Path) -> None:
    store, blob = Store(tmp_path), ref(b"content")
    first, second = store.writer(blob), store.writer(blob)
    for writer in (first, second):
        writer.write(b"content")
    for writer in (first, second):
        writer.commit()
    assert store.used_bytes == 7
    assert names(tmp_path) == {blob.sha256}


def test_a_package_that_can_never_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=10)
    used = put(store, b"aaaa")
    store.pin("deployment", [used])
    fitting = [used, ref(b"bbb"), ref(b"ccc"), ref(b"ccc")]
    assert store.take_offer(fitting) == [ref(b"bbb"), ref(b"ccc")]
    with pytest.raises(FlexPieError, match=r"a package of 14 bytes: its limit is 10 bytes, and .* use 4") as raised:
        store.take_offer([*fitting, ref(b"dddd")])
    assert raised.value.code is ErrorCode.TOO_LARGE


def test_blobs_that_somebody_deleted_are_missing(tmp_path: Path) -> None:
    old = put(Store(tmp_path), b"old")
    store = Store(tmp_path)
    new = put(store, b"new")
    for blob in (old, new):
        (tmp_path / blob.sha256).unlink()
    store.pin("deployment", [old, new])
    assert store.missing([old, new]) == [old, new]
    assert store.used_bytes == 0


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for end in (BlobWriter.commit, BlobWriter.abort):
        writer = store.writer(ref(b"content"))
        writer._file.close()
        writer._file = io.BufferedWriter(io.FileIO("/dev/full", "wb"), 2)
        with pytest.raises(FlexPieError, match="cannot keep a package: No space left") as caught:
            writer.write(b"content")
        assert caught.value.code is ErrorCode.TOO_LARGE
        with contextlib.suppress(FlexPieError):
            end(writer)
    assert names(tmp_path) == set()


def test_what_was_used_longest_ago_makes_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    first, pinned, last = put(store, b"first"), put(store, b"pinned"), put(store, b"last")
    store.pin("deployment", [pinned])
    size = 20  # of the disk

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=size - sum(path.stat().st_size for path in folder.iterdir()))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    new = put(store, b"1234567890")
    assert names(tmp_path) == {pinned.sha256, last.sha256, new.sha256}
    newest = put(store, b"12345678901234")
    assert names(tmp_path) == {pinned.sha256, newest.sha256}
    assert store.missing([first, last]) == [first, last]
