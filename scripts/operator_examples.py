"""One small example of every use of an operator that the table of operators tells apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flexpie.core.graph import AttributeValue, Constant, Operator, Reals
from flexpie.core.rules import BoundOperator
from flexpie.core.tensor import ElementType, Shape, TensorSpec

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Example:
    """Operators in one use. Shapes are such that the middle of every axis lies between groups and heads."""

    op_types: str
    """Names, separated by spaces; all behave alike."""
    inputs: tuple[Shape | None, ...]
    """None for an omitted optional input."""
    output: Shape
    """Of the first output."""
    axes: str
    """What the output's axes are called, separated by spaces; _ stands for a space."""
    use: str = ""
    """What sets this use apart from others of the operator."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    constants: Mapping[int, Constant] = field(default_factory=dict)
    """Known values of inputs."""
    reals: Mapping[int, Reals] = field(default_factory=dict)
    more_outputs: tuple[Shape, ...] = ()
    version: int = 21
    domain: str = ""

    def bound(self, op_type: str) -> BoundOperator:
        """What a rule is given of it."""
        kind = ElementType.FLOAT32
        inputs = [None if shape is None else TensorSpec(f"i{at}", shape, kind) for at, shape in enumerate(self.inputs)]
        outputs = [TensorSpec(f"o{at}", shape, kind) for at, shape in enumerate((self.output, *self.more_outputs))]
        operator = Operator(
            name=op_type,
            op_type=op_type,
            domain=self.domain,
            version=1 if self.domain else self.version,
            inputs=tuple(spec.name if spec else "" for spec in inputs),
            outputs=tuple(spec.name for spec in outputs),
            attributes=self.attributes,
        )
        indices = range(len(inputs))
        return BoundOperator(
            operator,
            tuple(inputs),
            tuple(outputs),
            tuple(self.constants.get(at) for at in indices),
            tuple(self.reals.get(at) for at in indices),
        )


IMAGE = (2, 8, 8, 8)
IMAGE_AXES = "batch channels rows columns"
SEQUENCE = (2, 8, 16)
SEQUENCE_AXES = "batch tokens features"
HEADS = (2, 4, 8, 16)
HEADS_AXES = "batch heads tokens features"
EVERY = "every_axis every_axis every_axis"
TWICE = (2, 8, 16, 16)
DOUBLED = (1.0, 1.0, 2.0, 2.0)

SECTIONS: Mapping[str, tuple[Example, ...]] = {
    "Element-wise": (
        Example(
            "Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Dropout Elu"
            " Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal"
            " Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu",
            (SEQUENCE,), SEQUENCE, EVERY, version=26,
        ),
        Example(
            "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max"
            " Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor",
            (SEQUENCE, (16,)), SEQUENCE, EVERY, "with broadcasting",
        ),
    ),
    "Convolution, pooling, pictures": (
        Example("Conv", (IMAGE, (8, 8, 3, 3), (8,)), IMAGE, IMAGE_AXES, attributes={"pads": (1, 1, 1, 1)}),
        Example("Conv", (IMAGE, (8, 1, 3, 3), (8,)), IMAGE, IMAGE_AXES, "depthwise or in groups",
                {"pads": (1, 1, 1, 1), "group": 8}),
        Example("ConvTranspose", (IMAGE, (8, 8, 2, 2), (8,)), TWICE, IMAGE_AXES, attributes={"strides": (2, 2)}),
        Example("ConvTranspose", (IMAGE, (8, 8, 3, 3)), TWICE, IMAGE_AXES,
                "odd padding by `auto_pad` or `output_shape`", {"strides": (2, 2), "auto_pad": "SAME_UPPER"}),
        Example("DeformConv", (IMAGE, (8, 8, 3, 3), (2, 18, 6, 6)), (2, 8, 6, 6), IMAGE_AXES, "one group", version=22),
        Example("AveragePool LpPool MaxPool", (IMAGE,), (2, 8, 4, 4), IMAGE_AXES,
                attributes={"kernel_shape": (2, 2), "strides": (2, 2)}),
        Example("MaxPool", (IMAGE,), (2, 8, 4, 4), IMAGE_AXES, "with indices",
                {"kernel_shape": (2, 2), "strides": (2, 2)}, more_outputs=((2, 8, 4, 4),)),
        Example("GlobalAveragePool GlobalLpPool GlobalMaxPool", (IMAGE,), (2, 8, 1, 1), IMAGE_AXES,
                "rows and columns are read whole"),
        Example("Resize", (IMAGE, None, (4,)), TWICE, IMAGE_AXES,
                "nearest, linear, cubic by known scales or sizes", {"mode": "cubic"}, reals={2: DOUBLED}),
        Example("Upsample", (IMAGE, (4,)), TWICE, IMAGE_AXES, "nearest, linear by known scales",
                reals={1: DOUBLED}, version=9),
        Example("Resize", (IMAGE, None, (4,)), TWICE, IMAGE_AXES, "`align_corners`, `antialias`",
                {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, reals={2: DOUBLED}),
        Example("Resize", (IMAGE, (8,), (4,)), TWICE, IMAGE_AXES, "`tf_crop_and_resize`, unknown scales",
                {"coordinate_transformation_mode": "tf_crop_and_resize"}, reals={2: DOUBLED}),
        Example("GridSample", (IMAGE, (2, 8, 8, 2)), IMAGE, IMAGE_AXES),
        Example("RoiAlign", (IMAGE, (4, 4), (4,)), (4, 8, 2, 2), "boxes channels rows columns", version=16),
        Example("MaxRoiPool", (IMAGE, (4, 5)), (4, 8, 2, 2), "boxes channels rows columns", version=16),
        Example("DepthToSpace", ((2, 32, 4, 4),), IMAGE, IMAGE_AXES, "mode CRD", {"blocksize": 2, "mode": "CRD"}),
        Example("DepthToSpace", ((2, 32, 4, 4),), IMAGE, IMAGE_AXES, "mode DCR", {"blocksize": 2}),
        Example("SpaceToDepth", (IMAGE,), (2, 32, 4, 4), IMAGE_AXES, attributes={"blocksize": 2}),
        Example("Col2Im", ((2, 32, 16), (2,), (2,)), (2, 8, 5, 5), IMAGE_AXES),
        Example("Pad", (IMAGE, (8,)), (2, 8, 10, 10), IMAGE_AXES, "constant, edge",
                constants={1: (0, 0, 1, 1, 0, 0, 1, 1)}),
        Example("Pad", (IMAGE, (8,)), (2, 8, 10, 10), "batch channels padded padded", "reflect, wrap",
                {"mode": "reflect"}, {1: (0, 0, 1, 1, 0, 0, 1, 1)}),
    ),
    "Matrix products, attention, recurrence": (
        Example("MatMul", (HEADS, (2, 4, 16, 8)), (2, 4, 8, 8), "batch batch rows columns"),
        Example("Gemm", ((8, 16), (16, 8), (8,)), (8, 8), "rows columns"),
        Example("Einsum", (HEADS, HEADS), (2, 4, 8, 8), "every_letter every_letter every_letter every_letter",
                "products", {"equation": "bhid,bhjd->bhij"}),
        Example("Einsum", ((4, 4),), (4,), "every_letter", "diagonals", {"equation": "ii->i"}),
        Example("Attention", (HEADS, HEADS, HEADS), HEADS, HEADS_AXES, "without past states", version=23),
        Example("Attention", (HEADS, HEADS, HEADS), HEADS, HEADS_AXES, "causal or windowed",
                {"is_causal": 1}, version=23),
        Example("RotaryEmbedding", (HEADS, (2, 8, 8), (2, 8, 8)), HEADS, HEADS_AXES, version=23),
        Example("GRU LSTM RNN", ((5, 4, 3), (2, 12, 3), (2, 12, 4)), (5, 2, 4, 4), "time directions batch features",
                attributes={"hidden_size": 4, "direction": "bidirectional"}),
    ),
    "Normalisation, reduction, order": (
        Example("BatchNormalization", (IMAGE, (8,), (8,), (8,), (8,)), IMAGE, IMAGE_AXES, "inference"),
        Example("LayerNormalization RMSNormalization", (SEQUENCE, (16,)), SEQUENCE, SEQUENCE_AXES, version=23),
        Example("InstanceNormalization", (IMAGE, (8,), (8,)), IMAGE, IMAGE_AXES),
        Example("GroupNormalization", (IMAGE, (8,), (8,)), IMAGE, "batch groups rows columns",
                attributes={"num_groups": 4}),
        Example("LRN", (IMAGE,), IMAGE, IMAGE_AXES, attributes={"size": 3}),
        Example("MeanVarianceNormalization", (IMAGE,), IMAGE, IMAGE_AXES),
        Example("Hardmax LogSoftmax LpNormalization Softmax", (SEQUENCE,), SEQUENCE, "others others `axis`"),
        Example("CumProd CumSum", (SEQUENCE, ()), SEQUENCE, "others others `axis`", constants={1: (2,)}),
        Example("ArgMax ArgMin", (SEQUENCE,), (2, 8), "others others", "`axis` is read whole",
                {"axis": 2, "keepdims": 0}),
        Example(
            "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"
            " ReduceSumSquare",
            (SEQUENCE, (1,)), (2, 8, 1), "others others reduced", "reduced axes are read whole", constants={1: (2,)},
        ),
        Example("TopK", (SEQUENCE, (1,)), (2, 8, 4), "others others `axis`", more_outputs=((2, 8, 4),)),
        Example("DFT", ((2, 8, 16, 1),), (2, 8, 16, 2), "others others `axis` parts", "known axis"),
        Example("STFT", ((2, 40, 1), (), (8,)), (2, 8, 5, 2), "batch frames frequencies parts", "known step",
                constants={1: (4,)}),
        Example("Det", ((2, 8, 4, 4),), (2, 8), "batch batch"),
        Example("ReverseSequence", ((8, 2, 16), (2,)), (8, 2, 16), "time batch others"),
        Example("Trilu", (HEADS,), HEADS, "batch batch rows columns", "known k"),
    ),
    "Rearranging": (
        Example("Reshape", (SEQUENCE, (4,)), (2, 8, 4, 4), "batch tokens heads features",
                "along factors that both shapes have"),
        Example("Flatten", (IMAGE,), (2, 512), "batch features", "along factors that both shapes have"),
        Example("Squeeze Unsqueeze", ((2, 1, 8, 16), (1,)), SEQUENCE, EVERY,
                constants={1: (1,)}),
        Example("Transpose", (SEQUENCE,), (16, 8, 2), EVERY),
        Example("Concat", (SEQUENCE, SEQUENCE), (2, 16, 16), "others `axis` others", attributes={"axis": 1}),
        Example("Split", (SEQUENCE,), (2, 4, 16), "others `axis` others", attributes={"axis": 1, "num_outputs": 2},
                more_outputs=((2, 4, 16),)),
        Example("Slice", (SEQUENCE, (1,), (1,), (1,)), (2, 6, 16), EVERY, "known slices",
                constants={1: (1,), 2: (7,), 3: (1,)}),
        Example("Expand", ((8, 1), (3,)), SEQUENCE, EVERY, constants={1: SEQUENCE}),
        Example("Tile", ((2, 4, 16), (3,)), SEQUENCE, "others repeated others", "in whole repetitions",
                constants={1: (1, 2, 1)}),
        Example("Gather", ((30, 16), (2, 8)), SEQUENCE, "indices indices others"),
        Example("GatherElements", (SEQUENCE, SEQUENCE), SEQUENCE, EVERY),
        Example("GatherND", ((2, 8, 16), (2, 4, 1)), (2, 4, 16), "batch indices others", attributes={"batch_dims": 1}),
        Example("Scatter", (SEQUENCE, SEQUENCE, SEQUENCE), SEQUENCE, "`axis` others others", version=10),
        Example("ScatterElements", (SEQUENCE, SEQUENCE, SEQUENCE), SEQUENCE, "`axis` others others"),
        Example("ScatterND", (SEQUENCE, (4, 1), (4, 8, 16)), SEQUENCE, "indexed others others"),
        Example("OneHot", ((2, 8), (), (2,)), SEQUENCE, "others others `axis`"),
    ),
    "Quantised": (
        Example("DequantizeLinear QuantizeLinear", (SEQUENCE, (), ()), SEQUENCE, EVERY,
                "per tensor"),
        Example("DequantizeLinear QuantizeLinear", (IMAGE, (8,), (8,)), IMAGE, "others `axis` others others",
                "per axis"),
        Example("DequantizeLinear QuantizeLinear", ((8, 16), (8, 2), (8, 2)), (8, 16), "blocked blocked", "in blocks",
                {"block_size": 8}),
        Example("QLinearConv", (IMAGE, (), (), (8, 8, 1, 1), (8,), (8,), (), (), (8,)), IMAGE, IMAGE_AXES),
        Example("ConvInteger", (IMAGE, (8, 8, 1, 1)), IMAGE, IMAGE_AXES),
        Example("QLinearMatMul", (SEQUENCE, (), (), (16, 16), (16,), (16,), (), ()), SEQUENCE, "batch rows columns"),
        Example("MatMulInteger", (SEQUENCE, (16, 16)), SEQUENCE, "batch rows columns"),
        Example("QLinearAdd QLinearMul", (SEQUENCE, (), (), (16,), (), (), (), ()), SEQUENCE,
                EVERY, "with broadcasting", domain=MICROSOFT),
        Example("QLinearWhere", ((16,), SEQUENCE, (), (), (16,), (), (), (), ()), SEQUENCE,
                EVERY, "with broadcasting", domain=MICROSOFT),
        Example("QLinearLeakyRelu QLinearSigmoid", (SEQUENCE, (), (), (), ()), SEQUENCE,
                EVERY, domain=MICROSOFT),
        Example("DequantizeLinear Gelu QuantizeLinear QuickGelu", (SEQUENCE,), SEQUENCE, EVERY,
                domain=MICROSOFT),
        Example("BiasGelu FastGelu", (SEQUENCE, (16,)), SEQUENCE, EVERY, domain=MICROSOFT),
        Example("QLinearAveragePool", (IMAGE, (), (), (), ()), (2, 8, 4, 4), IMAGE_AXES,
                attributes={"kernel_shape": (2, 2), "strides": (2, 2)}, domain=MICROSOFT),
        Example("QLinearGlobalAveragePool", (IMAGE, (), (), (), ()), (2, 8, 1, 1), IMAGE_AXES,
                "rows and columns are read whole", domain=MICROSOFT),
        Example("QLinearConcat", ((), (), SEQUENCE, (), (), SEQUENCE, (), ()), (2, 16, 16), "others `axis` others",
                attributes={"axis": 1}, domain=MICROSOFT),
        Example("QLinearSoftmax", (SEQUENCE, (), (), (), ()), SEQUENCE, "others others `axis`",
                attributes={"axis": -1, "opset": 13}, domain=MICROSOFT),
        Example("QGemm", ((8, 16), (), (), (16, 8), (8,), (8,), (8,), (), ()), (8, 8), "rows columns",
                domain=MICROSOFT),
    ),
}  # fmt: skip

WHOLE: Mapping[str, str] = {
    "control flow": "If Loop Scan SequenceMap",
    "sequences and optional values": (
        "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty"
        " SequenceErase SequenceInsert SequenceLength SplitToSequence"
    ),
    "outputs whose shape depends on the data": "Compress NonMaxSuppression NonZero Unique",
    "random numbers": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "text and files": "ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "constants and shapes": (
        "BlackmanWindow Constant ConstantOfShape EyeLike HammingWindow HannWindow MelWeightMatrix Range Shape Size"
    ),
    "one value out of all": "DynamicQuantizeLinear NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "no rule yet": ("AffineGrid CausalConvWithState CenterCropPad LinearAttention MaxUnpool SwiGLU TensorScatter"),
}
"""Why an operator of the default set has no rule, and which those are."""


def examples() -> Iterator[tuple[str, Example]]:
    """Every example with the name of its section."""
    for section, members in SECTIONS.items():
        for example in members:
            yield section, example
