"""Random graphs over the whole rule set: tensors of any rank, reshaped, turned, multiplied, reduced, cut and joined."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.random_graphs import GraphWriter

_LARGEST = 4000
"""Elements of a tensor; larger ones are not grown further."""

Step = Callable[[st.DrawFn, GraphWriter, str, list[str]], str | None]
"""One more tensor made of a recent one and maybe others; None where the operator does not fit."""


@st.composite
def operator_models(draw: st.DrawFn, longest: int = 10) -> onnx.ModelProto:
    """A model with one or two inputs of rank 1 to 5 and one to three outputs."""
    writer = GraphWriter(np.random.default_rng(draw(st.integers(0, 2**16))))
    inputs = [f"x{index}" for index in range(draw(st.integers(1, 2)))]
    for name in inputs:
        rank = draw(st.sampled_from((3, 3, 3, 4, 4, 2, 5, 1)))
        writer.shapes[name] = tuple(draw(st.sampled_from((1, 2, 3, 4, 6, 8))) for _ in range(rank))
    known = list(inputs)
    for _ in range(draw(st.integers(1, longest))):
        recent = known[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(known))
        made = draw(st.sampled_from(_STEPS))(draw, writer, recent, known)
        if made is not None and prod(writer.shapes[made]) <= _LARGEST:
            known.append(made)
    outputs = [known[-1]] if known[-1] not in inputs else [writer.add("Neg", [known[-1]])]
    outputs += [name for name in known if name not in (*inputs, *outputs) and draw(st.integers(0, 5)) == 0]
    return writer.model(inputs, outputs[:3])


def _axis(draw: st.DrawFn, shape: tuple[int, ...]) -> int:
    return draw(st.integers(0, len(shape) - 1))


def _unary(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    kinds = ("Relu", "Sigmoid", "Tanh", "Erf", "Gelu", "Softsign", "HardSwish", "Elu", "Neg", "Abs", "Identity")
    return writer.add(draw(st.sampled_from(kinds)), [x], writer.shapes[x])


def _broadcast(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    shape = tuple(draw(st.sampled_from((1, length))) for length in writer.shapes[x])
    return writer.add(
        draw(st.sampled_from(("Add", "Sub", "Mul"))), [x, writer.weight(*shape[draw(st.integers(0, 1)) :])]
    )


def _pair(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    alike = [name for name in known if writer.shapes[name] == writer.shapes[x]]
    return writer.add(draw(st.sampled_from(("Add", "Max", "Min", "Sub"))), [x, draw(st.sampled_from(alike))])


def _select(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    above = writer.add("Greater", [x, writer.weight(1, scale=0.1)], writer.shapes[x])
    return writer.add("Where", [above, x, writer.weight(1)], writer.shapes[x])


def _product(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    features = writer.shapes[x][-1]
    return writer.add("MatMul", [x, writer.weight(features, draw(st.sampled_from((1, 4, 6))), scale=features**-0.5)])


def _attention(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    """Scores of a tensor with itself, and their product with it."""
    shape = writer.shapes[x]
    if len(shape) < 2:
        return None
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    turned = writer.add("Transpose", [x], perm=list(order))
    scores = writer.add("Softmax", [writer.add("MatMul", [x, turned])], axis=-1)
    return writer.add("MatMul", [scores, x])


def _heads(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    """Split or join the last axis, as around attention."""
    shape = writer.shapes[x]
    if len(shape) == 3 and shape[2] % 2 == 0:
        target: tuple[int, ...] = (*shape[:2], 2, shape[2] // 2)
        split = writer.add("Reshape", [x, writer.integers(*target)], target)
        return writer.add("Transpose", [split], perm=[0, 2, 1, 3])
    if len(shape) == 4:
        turned = writer.add("Transpose", [x], perm=[0, 2, 1, 3])
        target = (shape[0], shape[2], shape[1] * shape[3])
        return writer.add("Reshape", [turned, writer.integers(*target)], target)
    return None


def _reshape(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    """Merge two neighbouring axes, split one in two, or add an axis of length 1."""
    shape = writer.shapes[x]
    axis = _axis(draw, shape)
    kind = draw(st.sampled_from(("merge", "split", "one")))
    if kind == "merge" and axis + 1 < len(shape):
        target = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    elif kind == "split" and shape[axis] % 2 == 0 and len(shape) < 5:
        target = (*shape[:axis], 2, shape[axis] // 2, *shape[axis + 1 :])
    else:
        if len(shape) >= 5:
            return _transpose(draw, writer, x, known)
        return writer.add("Unsqueeze", [x, writer.integers(axis)], (*shape[:axis], 1, *shape[axis:]))
    return writer.add("Reshape", [x, writer.integers(*target)], target)


def _transpose(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    return writer.add("Transpose", [x], perm=draw(st.permutations(range(len(writer.shapes[x])))))


def _reduce(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    shape = writer.shapes[x]
    keep = draw(st.integers(0, 1)) if len(shape) > 1 else 1
    kind = draw(st.sampled_from(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")))
    return writer.add(kind, [x, writer.integers(_axis(draw, shape))], keepdims=keep)


def _normalise(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    shape = writer.shapes[x]
    if draw(st.booleans()):
        return writer.add("Softmax", [x], shape, axis=_axis(draw, shape))
    scale, shift = (writer.weight(shape[-1], scale=0.2, offset=offset) for offset in (1.0, 0.0))
    return writer.add("LayerNormalization", [x, scale, shift], shape, axis=-1, epsilon=1e-2)


def _slice(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    shape = writer.shapes[x]
    axis = _axis(draw, shape)
    start = draw(st.integers(0, shape[axis] - 1))
    stop = draw(st.integers(start + 1, shape[axis]))
    words = [writer.integers(value) for value in (start, stop, axis, draw(st.integers(1, 2)))]
    return writer.add("Slice", [x, *words])


def _gather(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    shape = writer.shapes[x]
    axis = _axis(draw, shape)
    picked = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
    return writer.add("Gather", [x, writer.integers(*picked)], axis=axis)


def _concat(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    axis = _axis(draw, writer.shapes[x])
    return writer.add("Concat", [x, writer.add("Neg", [x], writer.shapes[x]), x][: draw(st.integers(1, 3))], axis=axis)


def _roll(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    """A cyclic shift, as of windows."""
    shape = writer.shapes[x]
    axis = _axis(draw, shape)
    if shape[axis] < 2:
        return None
    cut = draw(st.integers(1, shape[axis] - 1))
    halves = [writer.add("Slice", [x, *map(writer.integers, (start, stop, axis))])
              for start, stop in ((cut, shape[axis]), (0, cut))]  # fmt: skip
    return writer.add("Concat", halves, axis=axis)


def _pad(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str:
    pads = [draw(st.integers(0, 1)) for _ in range(2 * len(writer.shapes[x]))]
    return writer.add("Pad", [x, writer.integers(*pads)], mode=draw(st.sampled_from(("constant", "edge"))))


def _split(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    shape = writer.shapes[x]
    axis = _axis(draw, shape)
    if shape[axis] < 2:
        return None
    first = draw(st.integers(1, shape[axis] - 1))
    sizes = (first, shape[axis] - first)
    names = [f"s{len(writer.nodes)}_{part}" for part in range(2)]
    word = writer.integers(*sizes)
    writer.nodes.append(onnx.helper.make_node("Split", [x, word], names, name=names[0], axis=axis))
    for name, size in zip(names, sizes, strict=True):
        writer.shapes[name] = (*shape[:axis], size, *shape[axis + 1 :])
    known.append(names[1])
    return names[0]


def _image(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    """Operators for images that other graphs do not have."""
    shape = writer.shapes[x]
    if len(shape) != 4:
        return None
    kind = draw(st.sampled_from(("Resize", "ConvTranspose", "DepthToSpace", "SpaceToDepth", "InstanceNormalization")))
    if kind == "Resize":
        name = f"w{len(writer.initializers)}"
        scales = np.array([1, 1, *(draw(st.sampled_from((1, 2))) for _ in range(2))], np.float32)
        writer.initializers.append(numpy_helper.from_array(scales, name))
        mode, place = draw(st.sampled_from((("nearest", "asymmetric"), ("linear", "half_pixel"))))
        return writer.add("Resize", [x, "", name], tuple(int(a * b) for a, b in zip(shape, scales, strict=True)),
                          mode=mode, coordinate_transformation_mode=place, nearest_mode="floor")  # fmt: skip
    if kind == "ConvTranspose":
        weight = writer.weight(shape[1], 2, 2, 2, scale=(4 * shape[1]) ** -0.5)
        return writer.add("ConvTranspose", [x, weight], strides=[draw(st.integers(1, 2))] * 2)
    if kind == "DepthToSpace" and shape[1] % 4 == 0:
        return writer.add("DepthToSpace", [x], blocksize=2, mode=draw(st.sampled_from(("DCR", "CRD"))))
    if kind == "SpaceToDepth" and shape[2] % 2 == shape[3] % 2 == 0:
        return writer.add("SpaceToDepth", [x], blocksize=2)
    scale, shift = (writer.weight(shape[1], scale=0.2, offset=offset) for offset in (1.0, 0.0))
    return writer.add("InstanceNormalization", [x, scale, shift], shape, epsilon=1e-2)


def _einsum(draw: st.DrawFn, writer: GraphWriter, x: str, known: list[str]) -> str | None:
    if len(writer.shapes[x]) != 3:
        return None
    features = writer.shapes[x][2]
    return writer.add("Einsum", [x, writer.weight(features, 3, 2, scale=features**-0.5)], equation="btf,fhd->bhtd")


_STEPS: tuple[Step, ...] = (
    *(_unary, _broadcast, _pair, _select, _product, _product, _attention, _heads, _heads, _reshape, _reshape),
    *(_transpose, _reduce, _normalise, _normalise, _slice, _gather, _concat, _roll, _pad, _split, _image, _einsum),
)
