"""What the i-Estimator knows of a layer's part and of a device: numbers, made for thousands of parts at once.

A prediction is physics (`base_seconds`) times what trees make of the features. Physics carries the device's speed and
the amount of work, so that the trees need to know only how far from it a part of this shape is, and both may be larger
or smaller than anything that was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from flexpie.core.rates import DeviceRates
from flexpie.core.tensor import Shape
from flexpie.planner.cost import Array, LayerWork, Work

OP_TYPES = (
    "", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "DequantizeLinear",
    "Div", "Erf", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish",
    "Identity", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Pow", "QLinearAdd",
    "QLinearConv", "QLinearGlobalAveragePool", "QLinearMatMul", "QuantizeLinear", "ReduceMean", "Relu",
    "ReorderInput", "ReorderOutput", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
"""Operators that have a number of their own; all others share that of the empty name."""
_CODES = {name: code for code, name in enumerate(OP_TYPES)}

_MATRIX = frozenset({"MatMul", "Gemm", "QLinearMatMul", "MatMulInteger", "QGemm", "Einsum", "Attention"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "QLinearConv", "ConvInteger"})
_PREPARING = "DequantizeLinear"
_FUSED = frozenset({"Relu", "Clip", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "Identity"})
"""Linked operators that onnxruntime does while the result is in a register."""

_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Constant"})
_PICKING = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
"""Operators that read only what they write."""

WORK_FEATURES = (
    "op_type", "flops", "bytes_read", "bytes_written", "weight_bytes", "batch", "in_channels", "in_rows", "in_columns",
    "out_channels", "out_rows", "out_columns", "kernel_rows", "kernel_columns", "stride", "depthwise", "group_channels",
    "in_block_rest", "out_block_rest", "inner", "rank", "item_bytes", "integer", "linked", "linked_add", "linked_apart",
    "linked_bytes", "last_op_type", "fed_by", "read_by", "cut_channels", "cut_rows", "cut_columns", "enters", "leaves",
)  # fmt: skip
"""Columns of a part's description. Amounts and lengths are given as they are; trees do not mind."""

_AMOUNTS = ("dense_flops", "depthwise_flops", "matrix_flops", "element_flops", "moved_bytes", "nodes")
"""Columns behind them: what physics multiplies with a device's rates."""

FEATURES = (
    *WORK_FEATURES, "memory_to_computing", "node_to_all", "computing",
    "depthwise_to_dense", "matrix_to_dense", "element_to_dense", "memory_to_dense", "node_to_dense",
)  # fmt: skip
"""Columns that the trees see. Behind the part's description: seconds of moving data over seconds of computing, share of
starting operators, and computing in units of starting one operator; then what distinguishes the device from others of
its speed, its rates over that of dense convolutions. All are logarithms but the share."""

CATEGORICAL = ("op_type", "last_op_type", "fed_by", "read_by")
"""Those of them that are numbers without an order."""

_BLOCK = 16
"""Channels that onnxruntime lays out side by side where vectors are wide; elsewhere half as many."""


def describe(works: Sequence[LayerWork]) -> Array:
    """One row for each layer's part: `WORK_FEATURES`, then amounts for physics; shape [len(works), columns]."""
    cells = itertools.chain.from_iterable(map(_row, works))
    return np.fromiter(cells, np.float64, len(works) * _COLUMNS).reshape(len(works), _COLUMNS)


_COLUMNS = len(WORK_FEATURES) + len(_AMOUNTS)


def _row(works: LayerWork) -> tuple[float, ...]:
    main = works[0]
    if main.op_type == _PREPARING and len(works) > 1:
        main = next((work for work in works if work.op_type != _PREPARING), main)
    last = works[-1]
    read = next((shape for shape in main.inputs if shape is not None), ())
    written = next((shape for shape in main.outputs if shape is not None), ())
    batch, out_channels, out_rows, out_columns = _extents(written)
    _, in_channels, in_rows, in_columns = _extents(read)
    kernel_rows, kernel_columns = _pair(main.kernel)
    depthwise = main.group > 1 and out_channels <= 2 * main.group
    linked_add = linked_apart = linked_bytes = 0
    for work in works:
        if work.linked and work is not main:
            if work.op_type == "Add" or work.op_type == "QLinearAdd":
                linked_add += 1
            elif work.op_type not in _FUSED:
                linked_apart += 1
            linked_bytes += work.bytes_written
    cut = (*last.cut, False, False, False, False)
    return (
        _CODES.get(main.op_type, 0),
        main.flops,
        main.bytes_read,
        main.bytes_written,
        main.weight_bytes,
        batch,
        in_channels,
        in_rows,
        in_columns,
        out_channels,
        out_rows,
        out_columns,
        kernel_rows,
        kernel_columns,
        max(main.strides, default=0),
        depthwise,
        out_channels / max(1, main.group),
        in_channels % _BLOCK,
        out_channels % _BLOCK,
        read[-1] if read else 0,
        len(written),
        _item_bytes(main.dtype),
        "int" in main.dtype,
        len(works) - 1,
        linked_add,
        linked_apart,
        linked_bytes,
        _CODES.get(last.op_type, 0),
        _CODES.get(main.fed_by, 0),
        _CODES.get(last.read_by, 0),
        cut[1],
        cut[2],
        cut[3],
        main.enters,
        main.leaves,
        *_amounts(works, main, depthwise),
    )


def _amounts(works: LayerWork, main: Work, depthwise: bool) -> tuple[float, ...]:
    """`_AMOUNTS` of a layer's part. What is done while a result is in a register counts nothing."""
    dense = matrix = element = moved = nodes = 0
    apart = 0
    for work in works:
        if work.op_type in _CONVOLUTIONS and not depthwise:
            dense += work.flops
        elif work.op_type in _CONVOLUTIONS:
            apart += work.flops
        elif work.op_type in _MATRIX:
            matrix += work.flops
        elif work is not main and work.op_type in _FUSED:
            continue
        elif work.op_type not in _FREE:
            element += work.flops
        nodes += 1
        if work.op_type not in _FREE:
            moved += (work.bytes_written if work.op_type in _PICKING else work.bytes_read) + work.bytes_written
    return dense, apart, matrix, element, moved, nodes


def _extents(shape: Shape) -> tuple[int, int, int, int]:
    """Batch, channels, rows and columns: sequences have tokens for rows, and more axes than four are rows, too."""
    match len(shape):
        case 4:
            return shape[0], shape[1], shape[2], shape[3]
        case 3:
            return shape[0], shape[2], shape[1], 1
        case 2:
            return 1, shape[1], shape[0], 1
        case 1:
            return 1, shape[0], 1, 1
        case 0:
            return 1, 1, 1, 1
    rows = 1
    for length in shape[2:-1]:
        rows *= length
    return shape[0], shape[1], rows, shape[-1]


def _pair(kernel: Shape) -> tuple[int, int]:
    return (kernel[0], kernel[1]) if len(kernel) >= 2 else (kernel[0], 1) if kernel else (0, 0)


def _item_bytes(dtype: str) -> int:
    return {"float64": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int16": 2}.get(
        dtype, 1 if dtype in ("int8", "uint8", "bool") else 4
    )


def speeds_of(rates: DeviceRates) -> Array:
    """The rates of computing as a row: flops and bytes per second, and seconds of starting an operator; shape [6]."""
    return np.array(
        [
            rates.dense_flops_per_second,
            rates.depthwise_flops_per_second,
            rates.matrix_flops_per_second,
            rates.element_flops_per_second,
            rates.memory_bytes_per_second,
            rates.node_seconds,
        ]
    )


def base_seconds(rows: Array, speeds: Array) -> Array:
    """Physics: seconds of the described parts, shape [rows]; always above 0.

    Parameters
    ----------
    speeds: of the device (`speeds_of`), shape [6], or [rows, 6] where each row has a device of its own.
    """
    computing, moving, starting = _seconds(rows, speeds)
    seconds: Array = np.maximum(computing, moving) + starting
    return seconds


def tree_features(rows: Array, speeds: Array) -> Array:
    """`FEATURES` of the described parts, shape [rows, len(FEATURES)]; `speeds` as for `base_seconds`."""
    computing, moving, starting = _seconds(rows, speeds)
    tiny = speeds[..., 5] / 1000
    device = (
        np.log((moving + tiny) / (computing + tiny)),
        starting / (np.maximum(computing, moving) + starting),
        np.log((computing + tiny) / speeds[..., 5]),
    )
    return np.column_stack((rows[:, : len(WORK_FEATURES)], *device, _character(rows, speeds)))


def _character(rows: Array, speeds: Array) -> Array:
    ratios = np.log(speeds[..., 1:] / speeds[..., :1])
    ratios[..., 4] = np.log(speeds[..., 5] * speeds[..., 0])
    return np.broadcast_to(ratios, (len(rows), 5))


def _seconds(rows: Array, speeds: Array) -> tuple[Array, Array, Array]:
    """Of computing, of moving data and of starting operators."""
    flops, moved, nodes = rows[:, -6:-2], rows[:, -2], rows[:, -1]
    computing = (flops / speeds[..., :4]).sum(axis=1)
    return computing, moved / speeds[..., 4], np.maximum(nodes, 1) * speeds[..., 5]
