"""A daemon keeps its identity, and its folder for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.state_folder import StateFolder, default_folder


def test_the_identity_survives_a_restart(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "a") as first:
        known = first.identity
    with StateFolder(tmp_path / "a") as second:
        assert second.identity == known
    with StateFolder(tmp_path / "b") as other:
        assert other.identity != known


def test_a_damaged_identity_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text("nonsense")
    with StateFolder(tmp_path) as folder:
        assert len(folder.identity) == 32


def test_a_folder_has_one_daemon(tmp_path: Path) -> None:
    with (
        StateFolder(tmp_path),
        pytest.raises(FlexPieError, match="Another worker uses") as raised,
        StateFolder(tmp_path),
    ):
        pass
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    with StateFolder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FlexPieError, match="cannot be used") as raised, StateFolder(tmp_path / "file" / "below"):
        pass
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_a_folder_for_a_moment_is_gone_afterwards() -> None:
    with StateFolder(None) as folder:
        (folder.path / "blobs").mkdir()
        assert folder.path.is_dir()
    assert not folder.path.exists()


def test_each_port_has_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder("worker", 50051) == tmp_path / "flexpie" / "worker-50051"
    assert default_folder("master", 0) is None
    first, second = (default_folder("master", 50050, tmp_path / name) for name in ("a.yaml", "b.yaml"))
    assert first != second
