"""Opening a model file: what can be wrong with it, told in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from google.protobuf.message import DecodeError
from onnx.defs import onnx_opset_version

from flexpie.compiler.external_data import check_weight_data, map_external_data
from flexpie.compiler.skeleton import check
from flexpie.compiler.sparse import write_out_sparse
from flexpie.core.errors import ErrorCode, FlexPieError

_SHOWN_INPUTS = 4
"""So many are named in one message."""


def load_model(
    path: Path, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[ir.Model, Mapping[str, onnx.TypeProto]]:
    """Open an ONNX file and fix the shapes of its inputs.

    Returns the model, and the types of inputs and outputs that it cannot hold (maps), by name. Weights are not copied:
    they stay in the parsed message, or mapped in their external files.

    Raises
    ------
    FlexPieError: INVALID_MODEL, UNSUPPORTED_MODEL or INVALID_SHAPE, with the cause and a remedy.
    """
    proto = _parse(path)
    _name_default_domain(proto)
    _check_opsets(path, proto)
    check_weight_data(path, proto)
    _align_functions(proto)
    declared = _take_maps(proto)
    model = _to_ir(path, proto)
    _fix_input_shapes(path, model, dict(input_shapes or {}))
    try:
        passes.TopologicalSortPass()(model)
    except ValueError as error:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL, f"The graph of {path.name} has a cycle.", "Export the model again."
        ) from error
    _check_outputs(path, model)
    try:
        check(model, declared)
    except Exception as error:  # the checker's own, or any other for a message that contradicts itself
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"{path.name} is not a valid ONNX model: {_first_lines(error)}.",
            "Export the model again, or check it with onnx.checker.check_model.",
        ) from error
    return model, declared


def _check_outputs(path: Path, model: ir.Model) -> None:
    """The checker misses some of those that nothing yields."""
    for value in model.graph.outputs:
        if not (value.producer() or value.is_graph_input() or value.is_initializer()):
            raise FlexPieError(
                ErrorCode.INVALID_MODEL,
                f"{path.name} has the output {value.name!r}, which no operator yields.",
                "Export the model again.",
            )


def _first_lines(error: BaseException) -> str:
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return (text[:400] + "…" if len(text) > 400 else text).rstrip(".")


def _parse(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise FlexPieError(ErrorCode.INVALID_MODEL, f"There is no file {path}.", "Check the path.")
    if not path.is_file():
        raise FlexPieError(ErrorCode.INVALID_MODEL, f"{path} is not a file.", "Give the path of an .onnx file.")
    not_onnx = FlexPieError(
        ErrorCode.INVALID_MODEL,
        f"{path.name} is not an ONNX file, or it is truncated ({path.stat().st_size} bytes).",
        "Check that the whole file was copied, and that it is the .onnx file and not an archive or a checkpoint.",
    )
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise not_onnx from error
    except OSError as error:
        raise FlexPieError(ErrorCode.INVALID_MODEL, f"{path} cannot be read: {error.strerror or error}.") from error
    if not proto.ir_version or not proto.opset_import or not (proto.graph.node or proto.graph.output):
        raise not_onnx
    if not proto.graph.output:
        raise FlexPieError(
            ErrorCode.INVALID_MODEL, f"{path.name} has no outputs.", "Export the model again, with its outputs."
        )
    return proto


def _name_default_domain(proto: onnx.ModelProto) -> None:
    """Let the default operator set have its shorter name everywhere. Of nodes and functions `onnx_ir` does it."""
    for imports in (proto.opset_import, *(function.opset_import for function in proto.functions)):
        for entry in imports:
            if entry.domain == "ai.onnx":
                entry.domain = ""


def _check_opsets(path: Path, proto: onnx.ModelProto) -> None:
    for entry in proto.opset_import:
        if not entry.domain and not 1 <= entry.version <= onnx_opset_version():
            raise FlexPieError(
                ErrorCode.UNSUPPORTED_MODEL,
                f"{path.name} uses operator set {entry.version}; this installation knows 1 to {onnx_opset_version()}.",
                "Export the model with an older opset, or upgrade onnx and onnxruntime on the master and the workers.",
            )
    if proto.ir_version > onnx.IR_VERSION:
        raise FlexPieError(
            ErrorCode.UNSUPPORTED_MODEL,
            f"{path.name} has IR version {proto.ir_version}; this installation knows up to {onnx.IR_VERSION}.",
            "Upgrade onnx and onnxruntime on the master and the workers.",
        )


def _align_functions(proto: onnx.ModelProto) -> None:
    """Let functions use the model's operator sets, whatever they say: as onnxruntime does."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for function in proto.functions:
        for entry in function.opset_import:
            entry.version = versions.get(entry.domain, entry.version)


def _take_maps(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Take the types that have a map in them, which `onnx_ir` does not know, out of a message."""
    found = {}
    for infos in (proto.graph.input, proto.graph.output, proto.graph.value_info):
        for info in infos:
            if _has_map(info.type):
                found[info.name] = onnx.TypeProto.FromString(info.type.SerializeToString())
                info.ClearField("type")
    return found


def _has_map(kind: onnx.TypeProto) -> bool:
    match kind.WhichOneof("value"):
        case "map_type":
            return True
        case "sequence_type":
            return _has_map(kind.sequence_type.elem_type)
        case "optional_type":
            return _has_map(kind.optional_type.elem_type)
    return False


def _to_ir(path: Path, proto: onnx.ModelProto) -> ir.Model:
    try:
        write_out_sparse(proto.graph)
        model = ir.from_proto(proto)
        map_external_data(path, model)
    except Exception as error:  # onnx_ir raises many types for a message that contradicts itself
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise FlexPieError(
            ErrorCode.INVALID_MODEL,
            f"{path.name} is not a valid ONNX model: {_first_lines(cause)}.",
            "Export the model again, or check it with onnx.checker.check_model.",
        ) from error
    return model


def _fix_input_shapes(path: Path, model: ir.Model, given: dict[str, Sequence[int]]) -> None:
    weights = set(model.graph.initializers)
    inputs = [value for value in model.graph.inputs if value.name not in weights]
    names = [value.name or "" for value in inputs]
    for name in given:
        if name not in names:
            raise FlexPieError(
                ErrorCode.INVALID_SHAPE,
                f"A shape is given for {name!r}, but {path.name} has no such input.",
                f"Its inputs are: {', '.join(names) or 'none'}.",
            )
    _check_all_given(path, [value for value in inputs if value.name not in given])
    for value in inputs:
        shape = given.get(value.name or "")
        if isinstance(value.type, ir.TensorType):
            if shape is not None or value.shape is not None:  # one of unknown rank is opaque
                value.shape = ir.Shape(_fixed_shape(path, value, shape))
        elif shape is not None:
            raise FlexPieError(
                ErrorCode.INVALID_SHAPE,
                f"A shape is given for {value.name!r}, but this input of {path.name} is no tensor.",
                "Leave the shape away.",
            )


def _check_all_given(path: Path, inputs: Sequence[ir.Value]) -> None:
    """Raise ``INVALID_SHAPE`` for inputs with open dimensions, all of them at once."""
    still_open = [value for value in inputs if _open_axes(value)]
    if not still_open:
        return
    shown = still_open[:_SHOWN_INPUTS]
    more = f" and {len(still_open) - len(shown)} more" if len(still_open) > len(shown) else ""
    declared = ", ".join(f"{value.name} {_declared(value)}" for value in shown)
    options = " ".join(f"--shape {value.name}={_example(value)}" for value in shown)
    raise FlexPieError(
        ErrorCode.INVALID_SHAPE,
        f"{path.name} has inputs with open dimensions: {declared}{more}.",
        f"Give their shapes, such as `{options}` on the command line, or as `input_shapes` of the model in the cluster "
        "file.",
    )


def _open_axes(value: ir.Value) -> list[int]:
    """Axes of a tensor of known rank whose length is open, or no length."""
    if not isinstance(value.type, ir.TensorType) or value.shape is None:
        return []
    return [axis for axis, dim in enumerate(value.shape) if not isinstance(dim, int) or dim < 0]


def _example(value: ir.Value) -> str:
    """A shape that fits, as it is written on the command line."""
    dims = [] if value.shape is None else list(value.shape)
    usual = 224 if len(dims) == 4 else 64
    lengths = [dim if axis not in _open_axes(value) else usual if axis else 1 for axis, dim in enumerate(dims)]
    return "x".join(map(str, lengths))


def _declared(value: ir.Value) -> str:
    return f"[{', '.join(str(dim) for dim in value.shape or [])}]"


def _fixed_shape(path: Path, value: ir.Value, given: Sequence[int] | None) -> list[int]:
    declared = None if value.shape is None else list(value.shape)
    if given is None:
        return [int(dim) for dim in declared or [] if isinstance(dim, int)]
    fits = declared is None or (
        len(declared) == len(given)
        and all(not isinstance(dim, int) or dim == size for dim, size in zip(declared, given, strict=True))
    )
    if not fits or any(size < 0 for size in given):
        raise FlexPieError(
            ErrorCode.INVALID_SHAPE,
            f"The shape {list(given)} given for {value.name} contradicts {path.name}, which declares "
            f"{_declared(value)}.",
            "Give one length for each open dimension, and the declared length for the others.",
        )
    return [int(size) for size in given]
