"""The client finds a model's files without onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flexpie.wire.external_data import external_files


def _external(name: str, location: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def _model(folder: Path, *nodes: onnx.NodeProto, weights: tuple[str, ...] = ()) -> Path:
    initializers = [numpy_helper.from_array(np.ones((64, 64), np.float32), "inside")]
    initializers += [_external(f"w{at}", location) for at, location in enumerate(weights)]
    graph = helper.make_graph(list(nodes), "g", [], [], initializers)
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_every_file_is_named_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.bin", "deep/b.bin")
    assert external_files(_model(tmp_path, weights=("a.bin", "deep/b.bin", "a.bin"))) == ["a.bin", "deep/b.bin"]


def test_constants_and_inner_graphs_are_looked_into(tmp_path: Path) -> None:
    _touch(tmp_path, "constant.bin", "inner.bin")
    inner = helper.make_graph([], "inner", [], [], [_external("v", "inner.bin")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=_external("", "constant.bin")),
        helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner),
    ]
    assert external_files(_model(tmp_path, *nodes)) == ["constant.bin", "inner.bin"]


def test_what_is_missing_or_outside_is_left_to_the_master(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    _touch(tmp_path, "secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    places = ("absent.bin", "../secret", str(tmp_path / "secret"), "link", "model.onnx", "")
    assert external_files(_model(folder, weights=places)) == []


@pytest.mark.parametrize("content", [b"", b"hello, I am no model", b"\xff" * 100, b"\x3a\x7f\x00", b"\x00" * 64])
def test_what_is_no_model_has_no_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert external_files(path) == []


def test_every_truncation_ends_well(tmp_path: Path) -> None:
    _touch(tmp_path, "a.bin")
    content = _model(tmp_path, weights=("a.bin",)).read_bytes()
    for length in (*range(0, len(content), 997), len(content) - 1):
        path = tmp_path / "cut.onnx"
        path.write_bytes(content[:length])
        assert external_files(path) in ([], ["a.bin"])
