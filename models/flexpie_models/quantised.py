"""Quantised MobileNet v1: what onnxruntime's static quantiser makes of it, calibrated on random images.

Equal arguments give equal bytes with one version of onnxruntime: its kernels measure the ranges, and it writes the
graph.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from flexpie_models.graph_builder import Dimension
from flexpie_models.mobilenet import build_mobilenet_v1
from flexpie_models.weights import RandomWeights

_CALIBRATION_RUNS = 4


@dataclass(frozen=True)
class Quantisation:
    """How the numbers and the graph of a quantised model look."""

    name: str
    operators: bool
    """True: integer operators (QLinearConv). False: floating-point ones between QuantizeLinear and DequantizeLinear."""
    signed: bool
    """int8 with a scale per output channel, or uint8 with one scale per tensor."""


MOBILENET_V1_INT8 = Quantisation("mobilenet_v1_int8", operators=False, signed=True)
MOBILENET_V1_QOPERATOR = Quantisation("mobilenet_v1_qoperator", operators=True, signed=False)


def build_quantised_mobilenet(
    quantisation: Quantisation, *, seed: int, batch: Dimension, image_size: int
) -> onnx.ModelProto:
    """`input` float32 [batch, 3, image_size, image_size] → `logits` float32 [batch, 1000]."""
    # Only here: whoever builds another model need not load it.
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = build_mobilenet_v1(seed=seed, batch=batch, image_size=image_size)
    shape = (batch if isinstance(batch, int) else 1, 3, image_size, image_size)
    kind = quantization.QuantType.QInt8 if quantisation.signed else quantization.QuantType.QUInt8
    form = quantization.QuantFormat.QOperator if quantisation.operators else quantization.QuantFormat.QDQ
    with tempfile.TemporaryDirectory(prefix="flexpie-models-") as folder:
        folded, quantised = Path(folder) / "folded.onnx", Path(folder) / "quantised.onnx"
        quant_pre_process(model, str(folded))  # folds BatchNormalization
        quantization.quantize_static(
            str(folded),
            str(quantised),
            _RandomImages(RandomWeights(seed), shape),
            quant_format=form,
            activation_type=kind,
            weight_type=kind,
            per_channel=quantisation.signed,
            # Products of 8 and 8 bits overflow the 16 bits in which processors without VNNI add two of them.
            reduce_range=quantisation.signed,
        )
        result = onnx.load(quantised)
    _drop_unused_domains(result)
    result.graph.name = quantisation.name
    return result


class _RandomImages:
    """What the quantiser reads: a few batches of normal noise, then None."""

    def __init__(self, weights: RandomWeights, shape: tuple[int, ...]) -> None:
        self._weights = weights
        self._shape = shape
        self._runs = 0

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next batch by input name."""
        if self._runs == _CALIBRATION_RUNS:
            return None
        self._runs += 1
        return {"input": self._weights.normal(f"calibration.{self._runs}", self._shape, 1.0).astype(np.float32)}


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """Forget the operator sets that onnxruntime lists and no node uses."""
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
