"""One suite for both engines: onnxruntime, and the fake that stands for it in tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.tensor import ElementType
from flexpie.wire.tensors import NUMPY_DTYPES, Array
from flexpie.worker.engine import (
    Engine,
    FakeEngine,
    FakeModel,
    Interruption,
    OnnxRuntimeEngine,
    Port,
    run_unsplit,
)
from tests.integration.master_models import endless_loop

DIMENSIONS: list[str | int | None] = ["n", 3]
TYPES = {
    ElementType.FLOAT32: TensorProto.FLOAT,
    ElementType.FLOAT64: TensorProto.DOUBLE,
    ElementType.FLOAT16: TensorProto.FLOAT16,
    ElementType.BFLOAT16: TensorProto.BFLOAT16,
    ElementType.BOOL: TensorProto.BOOL,
    ElementType.STRING: TensorProto.STRING,
    ElementType.INT64: TensorProto.INT64,
    ElementType.UINT8: TensorProto.UINT8,
}


def model(op_type: str, kind: ElementType) -> bytes:
    inputs = [helper.make_tensor_value_info("x", TYPES[kind], DIMENSIONS)]
    outputs = [helper.make_tensor_value_info("y", TYPES[kind], DIMENSIONS)]
    graph = helper.make_graph([helper.make_node(op_type, ["x"], ["y"])], "g", inputs, outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(proto.SerializeToString())


NEGATE = model("Neg", ElementType.FLOAT32)
COPIES = {kind: model("Identity", kind) for kind in TYPES}


def fake() -> FakeEngine:
    def ports(name: str, kind: ElementType) -> tuple[Port, ...]:
        return (Port(name, (None, 3), kind),)

    def copy(arrays: Sequence[Array]) -> list[Array]:
        return [arrays[0].copy()]

    models = {content: FakeModel(ports("x", kind), ports("y", kind), copy) for kind, content in COPIES.items()}
    negate = FakeModel(ports("x", ElementType.FLOAT32), ports("y", ElementType.FLOAT32), lambda a: [-a[0]])
    return FakeEngine({**models, NEGATE: negate})


@pytest.fixture(params=["onnxruntime", "fake"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return OnnxRuntimeEngine() if request.param == "onnxruntime" else fake()


def test_a_session_tells_its_ports(engine: Engine) -> None:
    session = engine.load(NEGATE)
    assert session.inputs == (Port("x", (None, 3), ElementType.FLOAT32),)
    assert session.outputs == (Port("y", (None, 3), ElementType.FLOAT32),)


def test_a_session_runs(engine: Engine) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (y,) = engine.load(NEGATE).run([x])
    np.testing.assert_array_equal(y, -x)


def test_models_are_loaded_from_files(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(NEGATE)
    (y,) = engine.load(tmp_path / "m").run([np.ones((1, 3), np.float32)])
    assert y.tolist() == [[-1, -1, -1]]


def test_read_only_views_are_taken(engine: Engine) -> None:
    x = np.frombuffer(memoryview(np.arange(9, dtype=np.float32).tobytes())[12:], np.float32).reshape(2, 3)
    (y,) = engine.load(NEGATE).run([x])
    np.testing.assert_array_equal(y, -x)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_goes_through_unchanged(engine: Engine, kind: ElementType) -> None:
    if kind is ElementType.STRING:
        x: Array = np.array([["a", "", "ü" * 50]], dtype=object)
    else:
        raw = np.arange(6 * kind.itemsize, dtype=np.uint8) % (2 if kind is ElementType.BOOL else 61)
        x = raw.view(NUMPY_DTYPES[kind]).reshape(2, 3)
    (y,) = engine.load(COPIES[kind]).run([x])
    assert y.dtype == NUMPY_DTYPES[kind]
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("kind", [ElementType.FLOAT32, ElementType.BFLOAT16])
def test_tensors_may_be_empty(engine: Engine, kind: ElementType) -> None:
    (y,) = engine.load(COPIES[kind]).run([np.zeros((0, 3), NUMPY_DTYPES[kind])])
    assert y.shape == (0, 3)


@pytest.mark.parametrize("content", [b"", b"not a model", NEGATE[:40]])
def test_a_broken_model_is_refused(engine: Engine, content: bytes) -> None:
    with pytest.raises(FlexPieError) as raised:
        engine.load(content)
    assert raised.value.code is ErrorCode.EXECUTION_FAILED


@pytest.mark.parametrize("array", [np.zeros((2, 4), np.float32), np.zeros((2, 3)), np.zeros(3, np.float32)])
def test_inputs_that_do_not_fit_are_refused(engine: Engine, array: Array) -> None:
    with pytest.raises(FlexPieError) as raised:
        engine.load(NEGATE).run([array])
    assert raised.value.code is ErrorCode.EXECUTION_FAILED


def test_the_reference_takes_and_gives_names() -> None:
    x = np.ones((1, 3), np.float32)
    assert run_unsplit(NEGATE, {"x": x})["y"].tolist() == [[-1, -1, -1]]
    with pytest.raises(FlexPieError, match="input x is missing"):
        run_unsplit(NEGATE, {})


def test_custom_operators_are_unknown(engine: Engine) -> None:
    node = helper.make_node("Anything", ["x"], ["y"], domain="their.own")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("their.own", 1)]
    proto = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=9)
    with pytest.raises(FlexPieError) as raised:
        engine.load(proto.SerializeToString())
    assert raised.value.code is ErrorCode.EXECUTION_FAILED


def test_what_is_interrupted_fails_now_and_later(engine: Engine) -> None:
    session, x = engine.load(NEGATE), np.ones((1, 3), np.float32)
    interruption = Interruption()
    (y,) = session.run([x], interruption)
    assert y.tolist() == [[-1, -1, -1]]
    interruption.set()
    for _ in range(2):
        with pytest.raises(FlexPieError) as raised:
            session.run([x], interruption)
        assert raised.value.code is ErrorCode.EXECUTION_FAILED
    (y,) = session.run([x], Interruption())
    assert y.tolist() == [[-1, -1, -1]], "others are not concerned"


def test_types_that_take_a_detour_are_interrupted_too() -> None:
    session, interruption = OnnxRuntimeEngine().load(COPIES[ElementType.BFLOAT16]), Interruption()
    interruption.set()
    with pytest.raises(FlexPieError, match="terminate"):
        session.run([np.ones((1, 3), NUMPY_DTYPES[ElementType.BFLOAT16])], interruption)


def test_another_thread_ends_an_endless_loop(tmp_path: Path) -> None:
    session = OnnxRuntimeEngine().load(endless_loop(tmp_path / "loop.onnx"))
    x, interruption = np.zeros(4, np.float32), Interruption()
    timer = threading.Timer(0.1, interruption.set)
    timer.start()
    with pytest.raises(FlexPieError, match="terminate") as raised:
        session.run([x, np.array(True)], interruption)
    timer.join()
    assert raised.value.code is ErrorCode.EXECUTION_FAILED
    (y,) = session.run([x, np.array(False)])
    assert y.tolist() == [0, 0, 0, 0]


def test_profile_tells_the_time_of_each_node_in_each_run(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(NEGATE)
    session = OnnxRuntimeEngine().load_profiled(path, tmp_path)
    for _ in range(3):
        (result,) = session.run([np.ones((2, 3), np.float32)])
        assert (result == -1).all()
    profile = session.finish()
    assert profile.op_types == ("Neg",)
    assert profile.seconds.shape == (3, 1)
    assert (profile.seconds > 0).all()
    assert session.optimised.is_file()
