"""Sessions are made of exactly the blobs that a program declares."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import SubgraphRef
from flexpie.worker import engine
from flexpie.worker.engine import OnnxRuntimeEngine
from flexpie.worker.sessions import load_sessions, warm_sessions
from tests.worker_programs import device_program, digest, fake_engine, fake_package, onnx_package, ref


def write(folder: Path, blobs: dict[str, bytes]) -> None:
    for name, content in blobs.items():
        (folder / name).write_bytes(content)


def test_sessions_find_their_weights_beside_them(tmp_path: Path) -> None:
    package = onnx_package()
    write(tmp_path, package.blobs)
    sessions = load_sessions(package.programs[0], tmp_path, OnnxRuntimeEngine())
    warm_sessions(package.programs[0], sessions)
    (y,) = sessions[0].run([np.arange(4, dtype=np.float32)])
    assert y.tolist() == [0, 2, 4, 6]


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    package = onnx_package()
    for missing in package.blobs:
        others = {name: content for name, content in package.blobs.items() if name != missing}
        folder = tmp_path / missing
        folder.mkdir()
        write(folder, others)
        with pytest.raises(FlexPieError, match=f"lacks the blob {missing}") as raised:
            load_sessions(package.programs[0], folder, OnnxRuntimeEngine())
        assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "secret", "", "0" * 64])
def test_a_subgraph_reaches_no_file_but_its_weights(tmp_path: Path, location: str) -> None:
    package = onnx_package()
    program = package.programs[0]
    model = onnx.ModelProto.FromString(package.blobs[program.subgraphs[0].model.sha256])
    model.graph.initializer[0].external_data[0].value = location
    content = model.SerializeToString()
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / ("0" * 64)).write_bytes(bytes(16))
    write(tmp_path, {**package.blobs, digest(content): content})
    stolen = SubgraphRef("stolen", ref(content), program.subgraphs[0].weights)
    with pytest.raises(FlexPieError, match="none of its weights") as raised:
        load_sessions(replace(program, subgraphs=(stolen, program.subgraphs[1])), tmp_path, OnnxRuntimeEngine())
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


@pytest.mark.parametrize(("key", "text"), [("offset", "4"), ("length", "8"), ("length", "1000")])
def test_a_weight_outside_of_its_blob_is_refused(tmp_path: Path, key: str, text: str) -> None:
    package = onnx_package()
    program = package.programs[0]
    model = onnx.ModelProto.FromString(package.blobs[program.subgraphs[0].model.sha256])
    entries = [entry for entry in model.graph.initializer[0].external_data if entry.key != key]
    del model.graph.initializer[0].external_data[:]
    model.graph.initializer[0].external_data.extend(entries)
    model.graph.initializer[0].external_data.add(key=key, value=text)
    content = model.SerializeToString()
    write(tmp_path, {**package.blobs, digest(content): content})
    broken = SubgraphRef("broken", ref(content), program.subgraphs[0].weights)
    with pytest.raises(FlexPieError) as raised:
        load_sessions(replace(program, subgraphs=(broken, program.subgraphs[1])), tmp_path, OnnxRuntimeEngine())
    assert raised.value.code is ErrorCode.EXECUTION_FAILED


@pytest.mark.parametrize(("domain", "op_type"), [("com.evil", "Run"), ("ai.onnx.contrib", "PyOp"), ("", "NoSuchOp")])
def test_an_operator_from_a_library_is_refused(tmp_path: Path, domain: str, op_type: str) -> None:
    package = onnx_package()
    program = package.programs[0]
    model = onnx.ModelProto.FromString(package.blobs[program.subgraphs[0].model.sha256])
    model.graph.node[0].domain, model.graph.node[0].op_type = domain, op_type
    model.opset_import.add(domain=domain, version=1)
    content = model.SerializeToString()
    write(tmp_path, {**package.blobs, digest(content): content})
    foreign = SubgraphRef("foreign", ref(content), program.subgraphs[0].weights)
    with pytest.raises(FlexPieError, match="onnxruntime refused") as raised:
        load_sessions(replace(program, subgraphs=(foreign, program.subgraphs[1])), tmp_path, OnnxRuntimeEngine())
    assert raised.value.code is ErrorCode.EXECUTION_FAILED


def test_no_library_of_operators_is_ever_loaded() -> None:
    source = inspect.getsource(engine)
    assert "InferenceSession(" in source
    assert "register_custom_ops" not in source


@pytest.mark.parametrize("content", [b"", b"no model", b"ORTM" * 100, b"\x08\x01" * 100])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    package = onnx_package()
    write(tmp_path, {**package.blobs, digest(content): content})
    broken = SubgraphRef("broken", ref(content), ())
    program = replace(package.programs[0], subgraphs=(broken, package.programs[0].subgraphs[1]))
    with pytest.raises(FlexPieError) as raised:
        load_sessions(program, tmp_path, OnnxRuntimeEngine())
    assert raised.value.code in {ErrorCode.CORRUPT_PACKAGE, ErrorCode.EXECUTION_FAILED}


def test_a_subgraph_that_does_not_fit_its_step_is_refused(tmp_path: Path) -> None:
    write(tmp_path, fake_package().blobs)
    program = device_program(0)
    swapped = replace(program, subgraphs=program.subgraphs[::-1])
    with pytest.raises(FlexPieError, match="Subgraph window has") as raised:
        load_sessions(swapped, tmp_path, fake_engine())
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE
