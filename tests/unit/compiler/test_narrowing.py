"""Float16 boundaries: which values of which programs they narrow, and what becomes of odd numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from flexpie.compiler import lower
from flexpie.core.boundary import Boundary
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.plan import Plan, Segment
from flexpie.core.program import MASTER, DeviceProgram, Receive, Send
from flexpie.core.scheme import IN_H, OUT_C, single
from flexpie.core.tensor import ElementType
from flexpie.pipeline import compile_plan
from tests.random_graphs import GraphWriter
from tests.random_plans import forced_plan, plan_of
from tests.splitting import imported, in_process, run_split

ODD = np.array(
    [1e6, -1e6, 65504, 65519, 65520, np.inf, -np.inf, np.nan, 1e-8, 1e-7, 1 + 2**-11, 1 + 3 * 2**-11, 0.1, -0.0],
    np.float32,
)


def half(plan: Plan) -> Plan:
    return replace(plan, boundary=Boundary.FLOAT16)


def passing_model(opset: int = 17, kind: int = onnx.TensorProto.FLOAT) -> onnx.ModelProto:
    """x → Neg → t → Neg → y, where t is an output, too."""
    helper = onnx.helper
    nodes = [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("Neg", ["t"], ["y"])]
    x, t, y = (helper.make_tensor_value_info(name, kind, [4, len(ODD)]) for name in "xty")
    graph = helper.make_graph(nodes, "passing", [x], [y, t])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def handed_over(first: int = 0, then: int = 1) -> tuple[Segment, ...]:
    """The first layer on one device, the second on another."""
    return tuple(
        Segment(layer, layer + 1, single(device), tuple(float(device == other) for other in range(2)))
        for layer, device in enumerate((first, then))
    )


def messages(program: DeviceProgram, kind: type[Send] | type[Receive], peer: int) -> list[tuple[str, ElementType]]:
    found = []
    for step in program.steps:
        if isinstance(step, Send) and kind is Send and step.destination == peer:
            found += [program.values[part.value] for part in step.parts]
        if isinstance(step, Receive) and kind is Receive and step.source == peer:
            found += [program.values[value] for value in step.values]
    return [(value.tensor, value.dtype) for value in found]


def test_only_what_devices_exchange_is_narrow() -> None:
    graph = imported(passing_model()).graph
    lowered = lower(graph, half(plan_of(graph, 2, list(handed_over()))))
    first, second = lowered.programs
    assert first is not None
    assert second is not None
    assert messages(first, Receive, MASTER) == [("x", ElementType.FLOAT32)]
    assert messages(first, Send, 1) == messages(second, Receive, 0) == [("t/float16", ElementType.FLOAT16)]
    assert messages(first, Send, MASTER) == [("t", ElementType.FLOAT32)]  # an output leaves as it was computed
    assert messages(second, Send, MASTER) == [("y", ElementType.FLOAT32)]


def test_a_tensor_that_stays_is_not_narrow() -> None:
    graph = imported(passing_model()).graph
    plan = plan_of(graph, 2, list(handed_over(0, 0)))
    assert lower(graph, half(plan)) == lower(graph, plan)


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT32, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE])
def test_other_types_are_not_touched(kind: int) -> None:
    graph = imported(passing_model(kind=kind)).graph
    plan = plan_of(graph, 2, list(handed_over()))
    assert lower(graph, half(plan)) == lower(graph, plan)


def test_half_the_bytes_between_devices_and_all_of_them_from_and_to_the_master() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 4, 8, 6)
    middle = writer.add("Conv", ["x", writer.weight(4, 4, 3, 3)], pads=[1] * 4)
    model = imported(writer.model(["x"], [writer.add("Conv", [middle, writer.weight(4, 4, 3, 3)], pads=[1] * 4)]))
    feeds = {"x": np.ones((1, 4, 8, 6), np.float32)}
    for scheme in (IN_H, OUT_C):
        plan = forced_plan(model.graph, 2, scheme)
        exact, narrow = (run_split(model, item, feeds)[1].sent_bytes for item in (plan, half(plan)))
        assert exact.keys() == narrow.keys()
        for (source, destination), nbytes in exact.items():
            assert narrow[source, destination] == (nbytes if MASTER in (source, destination) else nbytes // 2)


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 17])
def test_odd_numbers(opset: int) -> None:
    model = imported(passing_model(opset))
    feeds = {"x": np.stack([np.roll(ODD, shift) for shift in range(4)])}  # in any lane of a vector
    outputs, _ = run_split(model, half(plan_of(model.graph, 2, list(handed_over()))), feeds)
    expected = np.clip(ODD, -65504, 65504).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(outputs["y"], [np.roll(expected, shift) for shift in range(4)])
    np.testing.assert_array_equal(np.signbit(outputs["y"][0][-1]), np.signbit(ODD[-1]))
    np.testing.assert_array_equal(outputs["t"], -feeds["x"])


def test_operator_sets_without_a_cast_are_refused() -> None:
    model = imported(passing_model(7))
    old = replace(model, opset_imports={"": 5})
    with pytest.raises(FlexPieError, match="need operator set 6 or later; the model has 5"):
        compile_plan(old, half(plan_of(model.graph, 2, list(handed_over()))))


def test_nan_stays_where_onnxruntime_fuses_the_clip() -> None:
    writer = GraphWriter(np.random.default_rng(0))
    writer.shapes["x"] = (1, 8, 8, 8)
    middle = writer.add("Conv", ["x", writer.weight(8, 8, 1, 1)])
    model = imported(writer.model(["x"], [writer.add("Conv", [middle, writer.weight(8, 8, 1, 1)])]))
    x = np.random.default_rng(1).standard_normal((1, 8, 8, 8)).astype(np.float32)
    x[0, 3, 2, 1] = np.nan
    outputs, _ = run_split(model, half(plan_of(model.graph, 2, list(handed_over()))), {"x": x})
    (result,) = outputs.values()
    assert np.isnan(result[0, :, 2, 1]).all()
    assert np.isfinite(result).sum() == result.size - 8


def test_a_name_that_the_model_has_is_not_taken() -> None:
    model = passing_model()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["t/float16" if name == "x" else name for name in names]
    model.graph.input[0].name = "t/float16"
    unsplit = imported(model)
    plan = half(plan_of(unsplit.graph, 2, list(handed_over())))
    x = np.full((4, len(ODD)), 0.1, np.float32)
    outputs, _ = run_split(unsplit, plan, {"t/float16": x})
    np.testing.assert_array_equal(outputs["y"], x.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.INT32])
def test_a_program_that_says_float16_of_something_else_is_refused(kind: int) -> None:
    model = imported(passing_model(kind=kind))
    compiled = compile_plan(model, plan_of(model.graph, 2, list(handed_over())))
    programs = [
        replace(
            program,
            values=tuple(replace(v, dtype=ElementType.FLOAT16) if v.tensor == "t" else v for v in program.values),
        )
        for program in compiled.programs
        if program is not None
    ]
    with pytest.raises(FlexPieError) as caught:
        in_process(replace(compiled, programs=tuple(programs)))
    assert caught.value.code is ErrorCode.CORRUPT_PACKAGE
