"""From a file to a layer graph: load, fold, infer shapes, link operators into layers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from flexpie.compiler.branches import keep_branch_outputs
from flexpie.compiler.imported import ImportedModel
from flexpie.compiler.inference import forget_declared_shapes, infer
from flexpie.compiler.layers import build_graph
from flexpie.compiler.loading import load_model
from flexpie.compiler.skeleton import check
from flexpie.core.hashing import file_digest

logger = logging.getLogger(__name__)

# The optimiser has many more rules. They are not used: some are wrong (two Slices of unequal length become a Split in
# halves), and none of the others makes a model easier to divide.
_FUSE_BATCH_NORMALIZATION = RewritePass(
    (
        rules.fuse_batchnorm_into_conv_rule,
        rules.fuse_batchnorm_into_conv_transpose_rule,
        rules.fuse_batchnorm_into_gemm_rule,
    )
)
_LIFT_CONSTANTS = passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)


def import_model(
    path: Path, input_shapes: Mapping[str, Sequence[int]] | None = None, name: str | None = None
) -> ImportedModel:
    """Read an ONNX file into an `ImportedModel`.

    requires: an ONNX file; a shape for each input whose dimensions the file leaves open.
    ensures: every tensor has a known shape or is opaque, constants are folded, BatchNormalization is folded into the
    convolution in front of it, every operator belongs to one layer.

    Raises
    ------
    FlexPieError: INVALID_MODEL, UNSUPPORTED_MODEL or INVALID_SHAPE.
    """
    model, declared = load_model(path, input_shapes)
    passes.RemoveInitializersFromInputsPass()(model)
    forget_declared_shapes(model)
    infer(path, model, declared)
    names = _names_by_tensor(model)
    model = _simplify(path, model, declared)
    _restore_names(model, names)
    types = infer(path, model, declared)
    return build_graph(model, types, name or path.stem, file_digest(path))


def _simplify(path: Path, model: ir.Model, declared: Mapping[str, onnx.TypeProto]) -> ir.Model:
    """Fold constants and BatchNormalization, drop dead and duplicate nodes, with the onnx project's own tools."""
    _settle_cast_like(model.graph)
    _settle_filled(model.graph)
    before = model.clone()  # shares the weights
    try:
        _optimize(model)
        keep_branch_outputs(model.graph)
        check(model, declared)  # it may have written operators of a newer set than the model's
    except Exception as error:  # an optimiser's defect must not cost the user the model
        logger.warning("%s: simplifying failed (%s); the model is used as it is", path.name, error)
        model = before
    finally:
        _let_optimizer_forget()
    if _interface(model) != _interface(before):  # it renames inputs that are outputs as well
        model = before
    for step in (passes.InlinePass(), _LIFT_CONSTANTS, passes.RemoveUnusedNodesPass(), passes.TopologicalSortPass()):
        step(model)
    _separate_dequantizers(model.graph)
    _detach_weight_outputs(model.graph)
    return model


def _optimize(model: ir.Model) -> None:
    passes.InlinePass()(model)
    fold_constants(model, onnx_shape_inference=True, should_fold=_may_fold)
    for step in (
        *(_FUSE_BATCH_NORMALIZATION, passes.RemoveUnusedNodesPass(), _LIFT_CONSTANTS),
        *(passes.LiftSubgraphInitializersToMainGraphPass(), passes.DeduplicateInitializersPass()),
        *(
            _drop_identities,
            passes.CommonSubexpressionEliminationPass(),
            passes.RemoveUnusedNodesPass(),
        ),
    ):
        step(model)


def _drop_identities(model: ir.Model) -> None:
    """Leave away what only copies, but not in sub-graphs: there a copy may be what makes an outer value an output."""
    for node in list(model.graph):
        if node.op_type == "Identity" and node.domain == "" and node.inputs[0] is not None:
            source, copy = node.inputs[0], node.outputs[0]
            if not copy.is_graph_output():
                if source.shape is None:
                    source.shape = copy.shape
                ir.convenience.replace_all_uses_with(copy, source)
                model.graph.remove(node, safe=True)


def _may_fold(node: ir.Node) -> bool | None:
    """Quantised weights stay what they are: onnxruntime computes on the integers. None leaves it to the tool."""
    return False if node.op_type in {"QuantizeLinear", "DequantizeLinear"} else None


def _separate_dequantizers(graph: ir.Graph) -> None:
    """Give every reader of a DequantizeLinear one of its own, as onnxruntime does: it becomes part of its reader. One
    whose output is an output of the model stays with that."""
    taken = {value.name for node in graph.all_nodes() for value in (*node.inputs, *node.outputs) if value is not None}
    for node in list(graph):
        if node.op_type != "DequantizeLinear":
            continue
        value, number = node.outputs[0], 0
        for reader, index in tuple(value.uses())[0 if value.is_graph_output() else 1 :]:
            if reader.graph is not graph:
                continue  # inside of an operator's sub-graph
            while (name := f"{value.name}/{number}") in taken:
                number += 1
            taken.add(name)
            twin = ir.Node(node.domain, node.op_type, node.inputs, node.attributes.values(), name=node.name)
            twin.outputs[0].name = name
            twin.outputs[0].type, twin.outputs[0].shape = value.type, value.shape
            graph.insert_after(node, twin)
            reader.replace_input_with(index, twin.outputs[0])


def _settle_cast_like(graph: ir.Graph) -> None:
    """Write CastLike as Cast with all its attributes: the optimiser would do it too, but leave `saturate` away."""
    for node in graph:
        like = node.inputs[1] if node.op_type == "CastLike" and node.domain in {"", "ai.onnx"} else None
        if like is not None and like.dtype is not None:
            node.op_type = "Cast"
            node.attributes["to"] = ir.AttrInt64("to", like.dtype)
            node.resize_inputs(1)


def _settle_filled(graph: ir.Graph) -> None:
    """Make weights of tensors that are filled with one value (models published without their weights have such in
    their stead). They take no memory until a slice is cut."""
    for node in list(graph):
        if node.op_type != "ConstantOfShape" or node.domain not in {"", "ai.onnx"} or node.outputs[0].is_graph_output():
            continue
        shape = ir.convenience.get_const_tensor(node.inputs[0]) if node.inputs[0] is not None else None
        if shape is None:
            continue
        fill = node.attributes.get_tensor("value")
        item = np.zeros(1, np.float32) if fill is None else fill.numpy().reshape(1)
        if item.dtype == object:
            continue
        value = node.outputs[0]
        weight = ir.Tensor(np.broadcast_to(item, tuple(int(length) for length in shape.numpy())), name=value.name)
        filled = ir.Value(name=value.name, type=ir.TensorType(weight.dtype), shape=weight.shape, const_value=weight)
        ir.convenience.replace_all_uses_with(value, filled)
        graph.remove(node, safe=True)
        graph.register_initializer(filled)


def _let_optimizer_forget() -> None:
    """Its pattern matchers keep the last node that they saw, and with it a model's weights: show them another."""
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    node = ir.Node("", "Neg", [value])
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 17})
    _optimize(ir.Model(graph, ir_version=8))


def _detach_weight_outputs(graph: ir.Graph) -> None:
    """Let an operator yield each output that is a weight, under its name: only operators run on devices."""
    for index, value in enumerate(graph.outputs):
        if value.is_initializer():
            name, value.name = value.name, f"{value.name}/weight"
            node = ir.Node("", "Identity", [value], name=f"{name}/output")
            node.outputs[0].name = name
            graph.append(node)
            graph.outputs[index] = node.outputs[0]


def _names_by_tensor(model: ir.Model) -> dict[str, str]:
    """The name of the node that reads each weight, or else yields each tensor."""
    names = {value.name: node.name for node in model.graph for value in node.outputs if value.name and node.name}
    weights = model.graph.initializers
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.name and value.name in weights and node.name:
                names[value.name] = node.name
    return names


def _restore_names(model: ir.Model, names: dict[str, str]) -> None:
    """Give the nodes that the optimiser wrote the names of those that they replace, and each a name of its own."""
    known = set(names.values())
    taken: set[str] = set()
    for index, node in enumerate(model.graph):
        if node.name not in known:
            tensors = [value.name for value in (*node.inputs[1:2], *node.outputs) if value is not None]
            node.name = next((names[tensor] for tensor in tensors if tensor in names), node.op_type)
        if node.name in taken:
            node.name = f"{node.name}#{index}"
        taken.add(node.name or "")


def _interface(model: ir.Model) -> tuple[list[str | None], list[str | None]]:
    return [value.name for value in model.graph.inputs], [value.name for value in model.graph.outputs]
