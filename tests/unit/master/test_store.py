"""The store: what was written is there after it was opened again, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.master import store as stores
from flexpie.master.store import FILE_NAME, Run, Store, StoredDeployment, StoredDistrust, StoredModel

CAT = StoredModel("cat", "c0ffee", "cat.onnx", ({"x": (1, 2)}, {"x": (4, 2)}), "auto", "latency", "", 3, 4, 0.5)
READY = StoredDeployment("f1", b"\0\1")


def _reopened(store: Store) -> Store:
    store.close()
    return Store(store.path.parent)


def test_everything_survives(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_model(CAT)
    store.keep_deployment("cat", 1, READY)
    store.keep_plan("k", "plan")
    store.keep_file_hash(Path("/a"), 3, 5, "abc")
    store = _reopened(store)
    assert store.models() == [CAT]
    assert store.deployments("cat") == {1: READY}
    assert store.plan("k") == "plan"
    assert store.file_hash(Path("/a"), 3, 5) == "abc"
    store.close()


def test_a_boundary_goes_with_its_model(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_model(replace(CAT, boundary="float16"))
    store.keep_model(replace(CAT, name="dog"))
    store = _reopened(store)
    assert [(model.name, model.boundary) for model in store.models()] == [("cat", "float16"), ("dog", "float32")]
    store.remove_model("cat")
    store.keep_model(CAT)
    assert store.models() == [replace(CAT, name="dog"), CAT]
    store.close()


def test_a_file_of_before_there_were_boundaries_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_model(CAT)
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        file.execute("DROP TABLE boundaries")
    store = Store(tmp_path)
    assert store.models() == [CAT]
    store.close()


def test_a_file_that_changed_has_no_known_hash(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_file_hash(Path("/a"), 3, 5, "abc")
    assert store.file_hash(Path("/a"), 4, 5) is None
    assert store.file_hash(Path("/a"), 3, 6) is None
    assert store.file_hash(Path("/b"), 3, 5) is None
    store.close()


def test_a_model_goes_with_its_deployments(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_model(CAT)
    store.keep_deployment("cat", 0, READY)
    store.keep_deployment("dog", 0, READY)
    store.remove_model("cat")
    assert (store.models(), store.deployments("cat"), store.deployments("dog")) == ([], {}, {0: READY})
    store.close()


def test_what_was_wrong_is_remembered_instead_of_its_deployment(tmp_path: Path) -> None:
    store, wrong = Store(tmp_path), StoredDistrust("abc", "c is wrong", frozenset({"a", "b"}))
    store.keep_deployment("cat", 0, READY)
    store.keep_deployment("cat", 1, READY)
    store.keep_distrust("cat", 1, wrong)
    store = _reopened(store)
    assert store.distrusted("cat") == {1: wrong}
    assert store.deployments("cat") == {0: READY}
    store.trust("cat")
    assert store.distrusted("cat") == {}
    store.keep_distrust("cat", 0, wrong)
    store.remove_model("cat")
    assert store.distrusted("cat") == {}
    store.close()


def test_a_store_from_before_distrust_was_remembered_gains_the_table(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("DROP TABLE distrusted")
    store = Store(tmp_path)
    assert store.distrusted("cat") == {}
    store.close()


def test_a_new_deployment_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_deployment("cat", 0, READY)
    store.keep_deployment("cat", 0, StoredDeployment("f2", b"new"))
    assert store.deployments("cat") == {0: StoredDeployment("f2", b"new")}
    store.close()


def test_plans_that_were_not_used_for_long_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "MOST_PLANS", 2)
    store = Store(tmp_path)
    store.keep_plan("a", "A")
    store.keep_plan("b", "B")
    assert store.plan("a") == "A"
    store.keep_plan("c", "C")
    assert [store.plan(key) for key in "abc"] == ["A", None, "C"]
    store.close()


def test_runs_are_counted_and_the_one_before_is_known(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.begin_run("c1", "") == (Run(1, "c1", ""), None)
    store = _reopened(store)
    assert store.begin_run("c2", "today") == (Run(2, "c2", "today"), Run(1, "c1", ""))
    store.close()


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_model(CAT)
    with pytest.raises(sqlite3.Error):
        store.keep_deployment("cat", 0, StoredDeployment("f", None))  # type: ignore[arg-type]
    store.keep_deployment("cat", 0, READY)
    assert store.deployments("cat") == {0: READY}
    store.close()


def _refused(folder: Path) -> str:
    before = (folder / stores.FILE_NAME).read_bytes()
    with pytest.raises(FlexPieError) as caught:
        Store(folder)
    assert caught.value.code is ErrorCode.INVALID_STATE
    assert "It was left as it is." in caught.value.remedy
    assert (folder / stores.FILE_NAME).read_bytes() == before
    return caught.value.message


def test_a_store_of_which_sqlite_quotes_no_text_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).close()

    def quote(self: Store, name: str) -> int:
        raise UnicodeDecodeError("utf-8", b"\x8f", 0, 1, "invalid start byte")

    monkeypatch.setattr(Store, "_pragma", quote)
    assert "it is damaged" in _refused(tmp_path)


def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / stores.FILE_NAME) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    assert f"it has version 7, and this FlexPie reads version {stores.VERSION}" in _refused(tmp_path)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / stores.FILE_NAME) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()
    assert "it is another program's" in _refused(tmp_path)


@pytest.mark.parametrize("position", [0, 100, 4096])
def test_a_damaged_store_is_left_alone(tmp_path: Path, position: int) -> None:
    store = Store(tmp_path)
    for number in range(50):
        store.keep_plan(str(number), "x" * 1000)
    store.close()
    file = tmp_path / stores.FILE_NAME
    content = bytearray(file.read_bytes())
    content[position : position + 64] = b"\xff" * 64
    file.write_bytes(content)
    assert f"The store {file} cannot be used" in _refused(tmp_path)


def test_a_file_that_was_cut_off_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_plan("k", "x" * 20_000)
    store.close()
    file = tmp_path / stores.FILE_NAME
    file.write_bytes(file.read_bytes()[:5000])
    _refused(tmp_path)


def test_a_text_that_is_damaged_is_said_when_it_is_read(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        store.keep_plan("key", "a plan of some length")
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b"plan of some", b"plan \xff\xff some"))
    with closing(Store(tmp_path)) as store, pytest.raises(FlexPieError, match="it is damaged") as caught:
        store.plan("key")
    assert caught.value.code is ErrorCode.INVALID_STATE


def test_a_file_that_others_hold_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOCKED_SECONDS", 0.0)
    with closing(Store(tmp_path)) as store:
        with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for change in (lambda: store.keep_model(CAT), lambda: store.begin_run("c", ""), lambda: store.plan("k")):
                with pytest.raises(FlexPieError, match="cannot be used: database is locked") as caught:
                    change()
                assert "other program" in caught.value.remedy
        store.keep_model(CAT)
        assert store.models() == [CAT]


def test_a_full_disk_is_said_and_later_forgotten(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        store.keep_model(CAT)
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite says is the same as for a full disk
        for _ in range(2):
            with pytest.raises(FlexPieError, match="disk is full") as caught:
                store.keep_plan("large", "x" * 100_000)
            assert (caught.value.code, caught.value.remedy[:9]) == (ErrorCode.INVALID_STATE, "Make room")
        store._db.execute("PRAGMA max_page_count = 1000000")
        store.keep_plan("large", "x" * 100_000)
        assert store.models() == [CAT]
