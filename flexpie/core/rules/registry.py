"""Which rule serves which operator."""

from __future__ import annotations

from collections.abc import Mapping

from flexpie.core.graph import Operator
from flexpie.core.rules.axes import ConcatRule, CumSumRule, ReduceRule, SoftmaxRule
from flexpie.core.rules.base import GuardedRule, Rule, WholeRule
from flexpie.core.rules.convolution import ConvRule
from flexpie.core.rules.matrix import GemmRule, MatMulRule
from flexpie.core.rules.normalization import (
    BatchNormalizationRule,
    GroupNormalizationRule,
    InstanceNormalizationRule,
    LayerNormalizationRule,
    LocalResponseRule,
    LpNormalizationRule,
    MeanVarianceRule,
)
from flexpie.core.rules.padding import PadRule
from flexpie.core.rules.pointwise import BroadcastRule, DropoutRule, UnaryRule
from flexpie.core.rules.pooling import GlobalPoolRule, PoolRule
from flexpie.core.rules.rearranging import DepthToSpaceRule, SpaceToDepthRule
from flexpie.core.rules.reshaping import ReshapeRule, TransposeRule
from flexpie.core.rules.selection import ExpandRule, GatherRule, SliceRule, SplitRule, TileRule


def _names(text: str) -> list[str]:
    return text.split()


_UNARY = _names("""
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Elu Erf Exp Floor
    Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu
    Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
""")

_BROADCAST = _names("""
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
""")

_REDUCTIONS = _names("""
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""")

_FAMILIES: Mapping[Rule, list[str]] = {
    UnaryRule(): _UNARY,
    BroadcastRule(): _BROADCAST,
    DropoutRule(): ["Dropout"],
    BatchNormalizationRule(): ["BatchNormalization"],
    ConvRule(): ["Conv"],
    PoolRule(): ["MaxPool", "AveragePool", "LpPool"],
    GlobalPoolRule(): ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"],
    ReshapeRule(): ["Reshape", "Flatten", "Squeeze", "Unsqueeze"],
    TransposeRule(): ["Transpose"],
    GemmRule(): ["Gemm"],
    MatMulRule(): ["MatMul"],
    SoftmaxRule(): ["Softmax", "LogSoftmax", "Hardmax"],
    ConcatRule(): ["Concat"],
    SliceRule(): ["Slice"],
    SplitRule(): ["Split"],
    GatherRule(): ["Gather"],
    ExpandRule(): ["Expand"],
    TileRule(): ["Tile"],
    PadRule(): ["Pad"],
    DepthToSpaceRule(): ["DepthToSpace"],
    SpaceToDepthRule(): ["SpaceToDepth"],
    CumSumRule(): ["CumSum"],
    ReduceRule(): _REDUCTIONS,
    LayerNormalizationRule(): ["LayerNormalization"],
    InstanceNormalizationRule(): ["InstanceNormalization"],
    GroupNormalizationRule(): ["GroupNormalization"],
    LocalResponseRule(): ["LRN"],
    MeanVarianceRule(): ["MeanVarianceNormalization"],
    LpNormalizationRule(): ["LpNormalization"],
}

_RULES: Mapping[str, Rule] = {
    op_type: GuardedRule(rule) for rule, op_types in _FAMILIES.items() for op_type in op_types
}
"""By operator type of the default operator set."""

_WHOLE = WholeRule()


def rule_for(operator: Operator) -> Rule:
    """The rule of an operator; without one it is computed whole."""
    if operator.opaque or operator.domain not in {"", "ai.onnx"}:
        return _WHOLE
    return _RULES.get(operator.op_type, _WHOLE)
