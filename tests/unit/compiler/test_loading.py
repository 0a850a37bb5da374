"""Every way in which a model file can be wrong gets an error of its own, in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flexpie.compiler import import_model
from flexpie.core.errors import ErrorCode, FlexPieError


def small_model(shape: tuple[int | str, ...] = (1, 3, 8, 8), opset: int = 17) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "small.onnx"
    onnx.save(model, str(path))
    return path


def refusal(path: Path, **shapes: tuple[int, ...]) -> FlexPieError:
    with pytest.raises(FlexPieError) as caught:
        import_model(path, shapes)
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.onnx")
    assert error.code is ErrorCode.INVALID_MODEL
    assert "none.onnx" in error.message


def test_folder_instead_of_file(tmp_path: Path) -> None:
    assert "not a file" in refusal(tmp_path).message


@pytest.mark.parametrize("content", [b"", b"hello world, this is no model", b"\x00" * 64, b"PK\x03\x04" + b"\x07" * 90])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(content)
    error = refusal(path)
    assert error.code is ErrorCode.INVALID_MODEL
    assert "not an ONNX file" in error.message


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path, small_model())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert refusal(path).code is ErrorCode.INVALID_MODEL


def test_unknown_opset(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, small_model(opset=999)))
    assert error.code is ErrorCode.UNSUPPORTED_MODEL
    assert "999" in error.message


def test_open_dimension_without_shape(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, small_model(("batch", 3, "height", 8))))
    assert error.code is ErrorCode.INVALID_SHAPE
    assert "x" in error.message
    assert "batch" in error.message
    assert "--shape x=" in error.remedy


def test_all_open_inputs_are_told_at_once_with_shapes_that_would_fit(tmp_path: Path) -> None:
    names = ["ids", "mask", "types", "positions", "past"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "token", 2]) for name in names]
    graph = helper.make_graph([helper.make_node("Sum", names, ["y"])], "sum", inputs, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    error = refusal(saved(tmp_path, model), mask=(1, 3, 2))
    assert "ids [batch, token, 2], types [batch, token, 2]" in error.message
    assert "mask" not in error.message
    assert "--shape ids=1x64x2 --shape types=1x64x2" in error.remedy


def test_open_dimension_with_shape(tmp_path: Path) -> None:
    model = import_model(saved(tmp_path, small_model(("batch", 3, "height", 8))), {"x": (2, 3, 10, 8)})
    assert model.graph.tensors["y"].shape == (2, 2, 8, 6)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8), (1, 3, -1, 8)])
def test_shape_that_contradicts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(saved(tmp_path, small_model(("n", 3, "h", 8))), x=shape).code is ErrorCode.INVALID_SHAPE


def test_shape_for_unknown_input(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, small_model()), image=(1, 3, 8, 8))
    assert error.code is ErrorCode.INVALID_SHAPE
    assert "'image'" in error.message
    assert "x" in error.remedy


def test_shapes_that_do_not_fit_each_other(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node.append(helper.make_node("MatMul", ["y", "w"], ["z"], name="product"))
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "product" in error.message


def test_output_that_nothing_yields(tmp_path: Path) -> None:
    model = small_model()
    model.graph.output.append(helper.make_tensor_value_info("lost", TensorProto.FLOAT, (1,)))
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "output 'lost', which no operator yields" in error.message


def test_cycle(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node.insert(0, helper.make_node("Add", ["x", "b"], ["a"], name="first"))
    model.graph.node.insert(1, helper.make_node("Relu", ["a"], ["b"], name="second"))
    assert refusal(saved(tmp_path, model)).code is ErrorCode.INVALID_MODEL


def test_no_outputs(tmp_path: Path) -> None:
    model = small_model()
    del model.graph.output[:]
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "no outputs" in error.message


def test_a_window_larger_than_its_input(tmp_path: Path) -> None:
    error = refusal(saved(tmp_path, small_model((1, 3, 8, 1))))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "window larger" in error.message


def test_missing_initializer(tmp_path: Path) -> None:
    model = small_model()
    del model.graph.initializer[:]
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "w" in error.message


def external(folder: Path) -> tuple[Path, onnx.ModelProto]:
    path = folder / "small.onnx"
    onnx.save(small_model(), str(path), save_as_external_data=True, location="small.data", size_threshold=0)
    return path, onnx.load(str(path), load_external_data=False)


def test_external_data(tmp_path: Path) -> None:
    path, _ = external(tmp_path)
    model = import_model(path)
    assert model.weights["w"].numpy().sum() == 54


def test_external_data_missing(tmp_path: Path) -> None:
    path, _ = external(tmp_path)
    (tmp_path / "small.data").unlink()
    error = refusal(path)
    assert error.code is ErrorCode.INVALID_MODEL
    assert "small.data" in error.message


def test_external_data_truncated(tmp_path: Path) -> None:
    path, _ = external(tmp_path)
    (tmp_path / "small.data").write_bytes(b"\x00" * 10)
    assert "truncated" in refusal(path).message


def test_external_data_that_are_shorter_than_the_weight_although_no_length_is_told(tmp_path: Path) -> None:
    path, proto = external(tmp_path)
    entries = [entry for entry in proto.graph.initializer[0].external_data if entry.key == "location"]
    del proto.graph.initializer[0].external_data[:]
    proto.graph.initializer[0].external_data.extend(entries)
    path.write_bytes(proto.SerializeToString())
    assert import_model(path).weights["w"].numpy().sum() == 54
    (tmp_path / "small.data").write_bytes(b"\x00" * 10)
    assert "truncated" in refusal(path).message


@pytest.mark.parametrize(("key", "value"), [("offset", "abc"), ("offset", "-4"), ("length", "")])
def test_external_data_in_no_place(tmp_path: Path, key: str, value: str) -> None:
    path, proto = external(tmp_path)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(proto.SerializeToString())
    error = refusal(path)
    assert error.code is ErrorCode.INVALID_MODEL
    assert "w" in error.message


def test_external_data_with_several_hard_links(tmp_path: Path) -> None:
    path, _ = external(tmp_path)
    (tmp_path / "other.data").hardlink_to(tmp_path / "small.data")
    error = refusal(path)
    assert error.code is ErrorCode.INVALID_MODEL
    assert "hard links" in error.message


@pytest.mark.parametrize("location", ["../outside.data", "/etc/hostname", "a/../../outside.data"])
def test_external_data_outside_of_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.data").write_bytes(b"\x00" * 1000)
    path, proto = external(folder)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(proto.SerializeToString())
    error = refusal(path)
    assert error.code is ErrorCode.INVALID_MODEL
    assert "outside" in error.message


def test_shape_that_depends_on_data(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node.append(helper.make_node("NonZero", ["y"], ["z"], name="nonzero"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.INT64, None))
    tensors = import_model(saved(tmp_path, model)).graph.tensors
    assert tensors["z"].opaque
    assert not tensors["y"].opaque


def looping(folder: Path) -> tuple[Path, onnx.ModelProto]:
    """A Loop whose body keeps its weight in a file."""
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "inner"], ["b"]), helper.make_node("Identity", ["on"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.full((1, 2, 6, 6), 7, np.float32), "inner")],
    )
    model = small_model()
    model.graph.initializer.append(numpy_helper.from_array(np.int64(2), "n"))
    model.graph.node.append(helper.make_node("Loop", ["n", "", "y"], ["z"], name="loop", body=body))
    model.graph.output[0].name = "z"
    path = folder / "small.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="small.data", size_threshold=0)
    return path, onnx.load(str(path), load_external_data=False)


def test_external_data_of_a_sub_graph(tmp_path: Path) -> None:
    path, proto = looping(tmp_path)
    assert proto.graph.node[1].attribute[0].g.initializer[0].data_location == TensorProto.EXTERNAL
    model = import_model(path)
    assert model.weights["inner"].numpy().sum() == 7 * 72


def test_external_data_of_a_sub_graph_outside_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.data").write_bytes(b"\x00" * 1000)
    path, proto = looping(folder)
    for entry in proto.graph.node[1].attribute[0].g.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../outside.data"
    path.write_bytes(proto.SerializeToString())
    error = refusal(path)
    assert error.code is ErrorCode.INVALID_MODEL
    assert "inner" in error.message
    assert "outside" in error.message


def test_a_name_that_two_nodes_yield(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node.append(helper.make_node("Relu", ["x"], ["y"], name="again"))
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "again" in error.message
    assert "'y'" in error.message


def test_functions_that_call_each_other(tmp_path: Path) -> None:
    model = small_model()
    calls = helper.make_node("Turn", ["a"], ["b"], domain="my.functions")
    opsets = [helper.make_opsetid("my.functions", 1)]
    model.functions.append(helper.make_function("my.functions", "Turn", ["a"], ["b"], [calls], opsets))
    model.opset_import.extend(opsets)
    model.graph.node.append(helper.make_node("Turn", ["y"], ["z"], domain="my.functions"))
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "Turn" in error.message


@pytest.mark.parametrize("name", ["model.json", "model.textproto", "model"])
def test_the_content_counts_not_the_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(small_model().SerializeToString())
    assert import_model(path).graph.inputs == ("x",)
    path.write_bytes(b"\x8a not a model")
    assert refusal(path).code is ErrorCode.INVALID_MODEL


def test_a_weight_with_other_values_than_its_shape_tells(tmp_path: Path) -> None:
    model = small_model()
    axes = numpy_helper.from_array(np.array([0]), "axes")
    axes.raw_data += bytes(8)
    model.graph.initializer.append(axes)
    model.graph.node.append(helper.make_node("Unsqueeze", ["y", "axes"], ["z"]))
    model.graph.output[0].name = "z"
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert "axes" in error.message


def test_a_weight_without_a_type(tmp_path: Path) -> None:
    model = small_model()
    model.graph.initializer[0].data_type = TensorProto.UNDEFINED
    assert refusal(saved(tmp_path, model)).code is ErrorCode.INVALID_MODEL


@pytest.mark.parametrize("dims", [(2**40,), (2, 3, 3, 4), (2, 3), (-2, 3, 3, 3)])
def test_weights_of_another_size_than_they_declare(tmp_path: Path, dims: tuple[int, ...]) -> None:
    model = small_model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
    assert f"'w' of small.onnx declares the shape {list(dims)}" in error.message
    assert "has 216" in error.message


def test_weights_without_all_of_their_elements(tmp_path: Path) -> None:
    model = small_model()
    model.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(2, 3, 3, 3)))
    model.graph.initializer[0].float_data.extend([1.0] * 53)
    assert "and so 54 elements, and has 53" in refusal(saved(tmp_path, model)).message


def test_a_pool_with_more_axes_than_its_image(tmp_path: Path) -> None:
    model = small_model()
    pool = helper.make_node("MaxPool", ["y"], ["z"], kernel_shape=[2], strides=[2], ceil_mode=1)
    model.graph.node.append(pool)
    model.graph.output[0].name = "z"
    error = refusal(saved(tmp_path, model))
    assert error.code is ErrorCode.INVALID_MODEL
