"""The detector: its boxes, decoded by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from flexpie_models import build
from flexpie_models.yolo import ANCHORS, STRIDES
from tests.unit.models.sessions import Tensor, run, shapes


def test_form_of_the_model() -> None:
    model = build("yolo_style")
    assert shapes(model.graph.input) == {"input": [1, 3, 320, 320]}
    assert shapes(model.graph.output) == {"detections": [1, 6300, 85]}
    counted = Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")
    blocks = {"Conv": 62, "BatchNormalization": 59, "Sigmoid": 59 + 3, "Mul": 59 + 12, "Add": 7 + 3, "MaxPool": 3}
    assert counted == blocks | {
        "Slice": 8,
        "Concat": 18,
        "Resize": 2,
        "Reshape": 6,
        "Transpose": 3,
        "Split": 3,
        "Pow": 3,
    }


def decoded(heads: list[Tensor]) -> Tensor:
    """Box by box: scale, anchor, row, column."""
    boxes = []
    for head, stride, anchors in zip(heads, STRIDES, ANCHORS, strict=True):
        cells = head.shape[-1]
        raw = 1.0 / (1.0 + np.exp(-head.astype(np.float64).reshape(len(anchors), 85, cells, cells)))
        for anchor, scores in zip(anchors, raw, strict=True):
            for row in range(cells):
                for column in range(cells):
                    box = scores[:, row, column].copy()
                    box[:2] = (2.0 * box[:2] - 0.5 + [column, row]) * stride
                    box[2:4] = (2.0 * box[2:4]) ** 2 * anchor
                    boxes.append(box)
    return np.stack(boxes)


def test_boxes_are_decoded_as_published() -> None:
    model = build("yolo_style", image_size=64)
    images = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    heads = [f"/model/24/m/{index}/Conv_output_0" for index in range(3)]
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 255, 64 // stride, 64 // stride])
        for name, stride in zip(heads, STRIDES, strict=True)
    )
    detections, *raw = run(opened, {"input": images})
    np.testing.assert_allclose(detections[0], decoded(list(raw)), rtol=1e-5, atol=1e-4)


def test_a_size_that_the_coarsest_scale_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="yolo_style needs an image size that is a multiple of 32, not 100"):
        build("yolo_style", image_size=100)
