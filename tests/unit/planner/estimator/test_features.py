"""What the i-Estimator is told of a layer's part."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flexpie.core.rates import REFERENCE_RATES
from flexpie.planner.cost import LayerWork, Work, placed
from flexpie.planner.estimator.features import (
    FEATURES,
    OP_TYPES,
    WORK_FEATURES,
    base_seconds,
    describe,
    speeds_of,
    tree_features,
)
from tests.unit.planner.estimator.synthetic import convolution

SPEEDS = speeds_of(REFERENCE_RATES)


def described(work: LayerWork) -> dict[str, float]:
    return dict(zip(WORK_FEATURES, describe([work])[0], strict=False))


def test_a_convolution_is_described_by_its_shapes() -> None:
    found = described(convolution(20, 7, 5))
    assert OP_TYPES[int(found["op_type"])] == "Conv"
    assert OP_TYPES[int(found["last_op_type"])] == "Relu"
    assert found["flops"] == 2 * 20 * 7 * 14 * 25 * 20
    assert (found["in_channels"], found["out_rows"], found["out_columns"]) == (20, 7, 14)
    assert (found["kernel_rows"], found["stride"], found["depthwise"]) == (5, 1, 0)
    assert found["out_block_rest"] == 4
    assert (found["linked"], found["linked_add"], found["linked_apart"]) == (1, 0, 0)


def test_depthwise_convolutions_and_residuals_are_told_apart() -> None:
    conv, relu = convolution(32, 7, depthwise=True)
    image = (1, 32, 7, 14)
    add = Work("Add", 3136, 2 * relu.bytes_read, relu.bytes_written, 0, (image, image), (image,), linked=True,
               cut=(False, False, True, False))  # fmt: skip
    found = described((conv, add))
    assert (found["depthwise"], found["group_channels"], found["linked_add"]) == (1, 1, 1)
    assert (found["cut_channels"], found["cut_rows"], found["cut_columns"]) == (0, 1, 0)


def test_sequences_have_tokens_for_rows_and_features_for_channels() -> None:
    matmul = Work("MatMul", 2 * 16 * 64 * 128, 4, 4, 0, ((1, 16, 64), (64, 128)), ((1, 16, 128),))
    found = described((matmul,))
    assert (found["in_channels"], found["out_channels"], found["out_rows"], found["out_columns"]) == (64, 128, 16, 1)


def test_a_quantised_layer_is_described_by_the_operator_that_works() -> None:
    image = (1, 8, 4, 4)
    prepare = Work("DequantizeLinear", 128, 128, 512, 0, (image,), (image,), dtype="float32")
    conv = Work("Conv", 10_000, 512, 512, 0, (image,), (image,), (3, 3), (1, 1), linked=True)
    assert OP_TYPES[int(described((prepare, conv))["op_type"])] == "Conv"


def test_unknown_operators_and_opaque_shapes_are_described_too() -> None:
    rows = describe([(Work("Mystery", 0, 0, 0, 0, (None,), (None,)),), (Work("Loop", 5, 8, 8, 0, ((),), ((),)),)])
    assert np.isfinite(tree_features(rows, SPEEDS)).all()
    assert (base_seconds(rows, SPEEDS) > 0).all()


def test_nothing_is_described_as_no_rows() -> None:
    assert tree_features(describe([]), SPEEDS).shape == (0, len(FEATURES))


def test_physics_is_computing_or_moving_and_starting() -> None:
    work = convolution(64, 14)
    flops, node = work[0].flops, REFERENCE_RATES.node_seconds
    assert base_seconds(describe([work]), SPEEDS)[0] == pytest.approx(
        flops / REFERENCE_RATES.dense_flops_per_second + node
    )
    image = (1, 64, 56, 56)
    nbytes = 4 * 64 * 56 * 56
    copy = (Work("Transpose", 0, nbytes, nbytes, 0, (image,), (image,)),)
    assert base_seconds(describe([copy]), SPEEDS)[0] == pytest.approx(
        2 * nbytes / REFERENCE_RATES.memory_bytes_per_second + node
    )


def test_a_device_that_is_slower_in_everything_has_equal_features() -> None:
    """So that a slower device of the same kind is predicted to be slower by just that."""
    rows = describe([convolution(c, r) for c in (8, 64) for r in (2, 28)])
    slower = speeds_of(REFERENCE_RATES.scaled(0.2))
    assert tree_features(rows, slower) == pytest.approx(tree_features(rows, SPEEDS))
    assert base_seconds(rows, slower) == pytest.approx(5 * base_seconds(rows, SPEEDS))


def test_each_row_may_have_speeds_of_its_own() -> None:
    rows = describe([convolution(8, 4), convolution(64, 14)])
    other = speeds_of(dataclasses.replace(REFERENCE_RATES, dense_flops_per_second=1e9))
    both = np.stack((SPEEDS, other))
    assert base_seconds(rows, both)[1] == base_seconds(rows[1:], other)[0]
    assert (tree_features(rows, both)[0] == tree_features(rows[:1], SPEEDS)[0]).all()


def test_borders_of_a_segment_are_features() -> None:
    work = convolution(20, 7, 5)
    assert placed(work, enters=False, leaves=False) == work
    found = described(placed(work, enters=True, leaves=False))
    assert (found["enters"], found["leaves"]) == (1, 0)
    assert described(work) == {**found, "enters": 0}
