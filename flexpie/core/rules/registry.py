"""Which rule serves which operator."""

from __future__ import annotations

from collections.abc import Mapping

from flexpie.core.graph import Operator
from flexpie.core.rules.attention import AttentionRule, RotaryRule
from flexpie.core.rules.axes import (
    ConcatRule,
    CumulativeRule,
    ReduceRule,
    ReverseSequenceRule,
    SoftmaxRule,
    TopKRule,
    TriluRule,
)
from flexpie.core.rules.base import GuardedRule, Rule, WholeRule
from flexpie.core.rules.convolution import ConvRule
from flexpie.core.rules.einsum import EinsumRule
from flexpie.core.rules.indexing import (
    GatherElementsRule,
    GatherNDRule,
    OneHotRule,
    ScatterElementsRule,
    ScatterNDRule,
)
from flexpie.core.rules.matrix import GemmRule, MatMulRule
from flexpie.core.rules.normalization import (
    BatchNormalizationRule,
    GroupNormalizationRule,
    InstanceNormalizationRule,
    LayerNormalizationRule,
    LocalResponseRule,
    LpNormalizationRule,
    MeanVarianceRule,
    RootMeanSquareRule,
)
from flexpie.core.rules.padding import PadRule
from flexpie.core.rules.pointwise import BroadcastRule, DropoutRule, UnaryRule
from flexpie.core.rules.pooling import GlobalPoolRule, PoolRule
from flexpie.core.rules.quantization import (
    QuantizedBroadcastRule,
    QuantizedConcatRule,
    QuantizedGemmRule,
    QuantizedGlobalPoolRule,
    QuantizedPoolRule,
    QuantizedSoftmaxRule,
    QuantizeRule,
)
from flexpie.core.rules.rearranging import DepthToSpaceRule, SpaceToDepthRule
from flexpie.core.rules.recurrent import RecurrentRule
from flexpie.core.rules.reshaping import ReshapeRule, TransposeRule
from flexpie.core.rules.resizing import ResizeRule
from flexpie.core.rules.sampling import Col2ImRule, DeformConvRule, GridSampleRule, RegionPoolRule
from flexpie.core.rules.selection import ExpandRule, GatherRule, SliceRule, SplitRule, TileRule
from flexpie.core.rules.signals import DeterminantRule, FourierRule, ShortFourierRule
from flexpie.core.rules.transposed import ConvTransposeRule

MICROSOFT = "com.microsoft"
"""Domain of the operators that onnxruntime adds; its quantiser writes some of them."""


def _names(text: str) -> list[str]:
    return text.split()


_UNARY = _names("""
    Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Elu Erf Exp Floor
    Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu
    Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
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
    ConvRule(filters=1, per_channel=(3,)): ["ConvInteger"],
    ConvRule(filters=3, per_channel=(4, 5, 8)): ["QLinearConv"],
    ConvTransposeRule(): ["ConvTranspose"],
    DeformConvRule(): ["DeformConv"],
    PoolRule(): ["MaxPool", "AveragePool", "LpPool"],
    GlobalPoolRule(): ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"],
    ReshapeRule(): ["Reshape", "Flatten", "Squeeze", "Unsqueeze"],
    TransposeRule(): ["Transpose"],
    GemmRule(): ["Gemm"],
    MatMulRule(): ["MatMul"],
    MatMulRule(of_rows=(2,), of_columns=(3,)): ["MatMulInteger"],
    MatMulRule(b=3, of_rows=(1, 2), of_columns=(4, 5)): ["QLinearMatMul"],
    EinsumRule(): ["Einsum"],
    QuantizeRule(): ["QuantizeLinear", "DequantizeLinear"],
    SoftmaxRule(): ["Softmax", "LogSoftmax", "Hardmax"],
    ConcatRule(): ["Concat"],
    SliceRule(): ["Slice"],
    SplitRule(): ["Split"],
    GatherRule(): ["Gather"],
    GatherElementsRule(): ["GatherElements"],
    GatherNDRule(): ["GatherND"],
    ScatterElementsRule(): ["ScatterElements", "Scatter"],
    ScatterNDRule(): ["ScatterND"],
    OneHotRule(): ["OneHot"],
    ExpandRule(): ["Expand"],
    TileRule(): ["Tile"],
    PadRule(): ["Pad"],
    DepthToSpaceRule(): ["DepthToSpace"],
    SpaceToDepthRule(): ["SpaceToDepth"],
    CumulativeRule(): ["CumSum", "CumProd"],
    ReduceRule(): _REDUCTIONS,
    TopKRule(): ["TopK"],
    TriluRule(): ["Trilu"],
    ReverseSequenceRule(): ["ReverseSequence"],
    ResizeRule(): ["Resize", "Upsample"],
    GridSampleRule(): ["GridSample"],
    RegionPoolRule(): ["RoiAlign", "MaxRoiPool"],
    Col2ImRule(): ["Col2Im"],
    RecurrentRule(): ["RNN", "GRU", "LSTM"],
    FourierRule(): ["DFT"],
    ShortFourierRule(): ["STFT"],
    DeterminantRule(): ["Det"],
    AttentionRule(): ["Attention"],
    RotaryRule(): ["RotaryEmbedding"],
    RootMeanSquareRule(): ["RMSNormalization"],
    LayerNormalizationRule(): ["LayerNormalization"],
    InstanceNormalizationRule(): ["InstanceNormalization"],
    GroupNormalizationRule(): ["GroupNormalization"],
    LocalResponseRule(): ["LRN"],
    MeanVarianceRule(): ["MeanVarianceNormalization"],
    LpNormalizationRule(): ["LpNormalization"],
}

_MICROSOFT: Mapping[Rule, list[str]] = {
    QuantizeRule(): ["QuantizeLinear", "DequantizeLinear"],
    UnaryRule(): ["QLinearSigmoid", "QLinearLeakyRelu", "Gelu", "QuickGelu"],
    BroadcastRule(): ["BiasGelu", "FastGelu"],
    QuantizedBroadcastRule((0, 3)): ["QLinearAdd", "QLinearMul"],
    QuantizedBroadcastRule((0, 1, 4)): ["QLinearWhere"],
    QuantizedConcatRule(): ["QLinearConcat"],
    QuantizedPoolRule(): ["QLinearAveragePool"],
    QuantizedGlobalPoolRule(): ["QLinearGlobalAveragePool"],
    QuantizedSoftmaxRule(): ["QLinearSoftmax"],
    QuantizedGemmRule(): ["QGemm"],
}

RULES: Mapping[tuple[str, str], Rule] = {
    (domain, op_type): GuardedRule(rule)
    for domain, families in (("", _FAMILIES), (MICROSOFT, _MICROSOFT))
    for rule, op_types in families.items()
    for op_type in op_types
}
"""By domain and operator type."""

_WHOLE = WholeRule()


def rule_for(operator: Operator) -> Rule:
    """The rule of an operator; without one it is computed whole."""
    if operator.opaque:
        return _WHOLE
    domain = "" if operator.domain == "ai.onnx" else operator.domain
    return RULES.get((domain, operator.op_type), _WHOLE)
