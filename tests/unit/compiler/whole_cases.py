"""Models in which something runs whole, between convolutions that are split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 8, 16, 16)
"""Of `front`, `deep` and everything that the tails below yield for more convolutions."""

node = helper.make_node


def info(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    """A tensor's declaration; without a shape it is of unknown rank."""
    return helper.make_tensor_value_info(name, kind, shape)


def sequence(name: str) -> onnx.ValueInfoProto:
    """Declaration of a sequence of tensors."""
    return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)


def optional(name: str) -> onnx.ValueInfoProto:
    """Declaration of an optional tensor."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return helper.make_value_info(name, kind)


def constant(name: str, value: Any) -> onnx.TensorProto:
    """A weight."""
    return numpy_helper.from_array(np.asarray(value), name)


def graph(
    name: str, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.GraphProto:
    """A sub-graph."""
    return helper.make_graph(nodes, name, inputs, outputs)


def model(
    tail: list[onnx.NodeProto],
    outputs: list[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (),
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 18,
) -> onnx.ModelProto:
    """``x`` [1, 4, 16, 16] → Conv, Relu → ``front`` → Conv → ``deep``, and a tail behind them; ``w`` fits either."""
    random = np.random.default_rng(0)
    kernels = [(random.standard_normal(shape) * 0.3).astype(np.float32) for shape in ((8, 4, 3, 3), (8, 8, 3, 3))]
    nodes = [
        node("Conv", ["x", "w0"], ["c"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["front"], name="relu"),
        node("Conv", ["front", "w"], ["deep"], name="second", pads=[1, 1, 1, 1]),
        *tail,
    ]
    ends = [info("x", shape=(1, 4, 16, 16)), *inputs]
    body = helper.make_graph(
        nodes, "cases", ends, outputs, [constant("w0", kernels[0]), constant("w", kernels[1]), *weights]
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(body, opset_imports=opsets, ir_version=9, functions=list(functions))


def conv(source: str, result: str) -> onnx.NodeProto:
    """One more convolution that can be split."""
    return node("Conv", [source, "w"], [result], name=f"conv_{result}", pads=[1, 1, 1, 1])


def nested_if() -> onnx.ModelProto:
    """Both branches read outer tensors, one of them inside of an If of its own."""
    inner = [
        graph("adds", [node("Add", ["deep", "front"], ["sum"])], [], [info("sum")]),
        graph("copies", [node("Identity", ["front"], ["copy"])], [], [info("copy")]),
    ]
    choice = node("If", ["positive"], ["inner"], then_branch=inner[0], else_branch=inner[1])
    ones = node("Constant", [], ["ones"], value=constant("", np.ones(SHAPE, np.float32)))
    tail = [
        node("ReduceMax", ["deep"], ["largest"], keepdims=0),
        node("Greater", ["largest", "zero"], ["positive"]),
        node(
            "If",
            ["positive"],
            ["y"],
            then_branch=graph("then", [choice], [], [info("inner")]),
            else_branch=graph("else", [ones], [], [info("ones")]),
        ),
        conv("y", "z"),
    ]
    return model(tail, [info("z")], [constant("zero", np.float32(0))])


def loop() -> onnx.ModelProto:
    """A carried tensor that keeps its shape, and one that does not."""
    body = graph(
        "body",
        [
            node("Add", ["acc", "front"], ["next"]),
            node("Concat", ["rows", "rows"], ["longer"], axis=0),
            node("Identity", ["on"], ["still"]),
        ],
        [info("i", TensorProto.INT64, ()), info("on", TensorProto.BOOL, ()), info("acc"), info("rows")],
        [info("still", TensorProto.BOOL, ()), info("next"), info("longer")],
    )
    tail = [node("Loop", ["n", "", "deep", "row"], ["y", "grown"], body=body), conv("y", "z")]
    weights = [constant("n", np.int64(3)), constant("row", np.ones((1, 2), np.float32))]
    return model(tail, [info("z"), info("grown")], weights)


def loop_over_sequence() -> onnx.ModelProto:
    """The body captures a tensor and grows a sequence, which is an output too."""
    body = graph(
        "body",
        [
            node("Cast", ["i"], ["factor"], to=TensorProto.FLOAT),
            node("Mul", ["front", "factor"], ["item"]),
            node("SequenceInsert", ["items", "item"], ["more"]),
            node("Identity", ["on"], ["still"]),
        ],
        [info("i", TensorProto.INT64, ()), info("on", TensorProto.BOOL, ()), sequence("items")],
        [info("still", TensorProto.BOOL, ()), sequence("more")],
    )
    tail = [
        node("SequenceEmpty", [], ["nothing"]),
        node("Loop", ["n", "", "nothing"], ["list"], body=body),
        node("ConcatFromSequence", ["list"], ["y"], axis=1),
    ]
    return model(tail, [info("y"), sequence("list")], [constant("n", np.int64(3))])


def scan() -> onnx.ModelProto:
    """Shapes are known behind it."""
    body = graph(
        "body",
        [node("Add", ["state", "item"], ["next"]), node("Mul", ["next", "two"], ["result"])],
        [info("state", shape=(16, 16)), info("item", shape=(16, 16))],
        [info("next", shape=(16, 16)), info("result", shape=(16, 16))],
    )
    body.initializer.append(constant("two", np.float32(2)))
    tail = [
        node("Squeeze", ["deep", "axis"], ["items"]),
        node("ReduceSum", ["items", "axis"], ["state0"], keepdims=0),
        node("Scan", ["state0", "items"], ["last", "all"], body=body, num_scan_inputs=1),
        node("Unsqueeze", ["all", "axis"], ["y"]),
        conv("y", "z"),
    ]
    return model(tail, [info("z"), info("last")], [constant("axis", np.array([0]))])


def non_zero() -> onnx.ModelProto:
    """Positions of what is not zero, and their values, beside convolutions."""
    tail = [
        node("NonZero", ["front"], ["where"]),
        node("Transpose", ["where"], ["places"], perm=[1, 0]),
        node("GatherND", ["front", "places"], ["values"]),
        node("ReduceSum", ["values"], ["total"], keepdims=0),
        node("Add", ["deep", "total"], ["y"]),
        conv("y", "z"),
    ]
    return model(tail, [info("z"), info("values"), info("where", TensorProto.INT64)])


def computed_size() -> onnx.ModelProto:
    """TopK with a count that the data give."""
    tail = [
        node("ReduceMax", ["deep"], ["largest"], keepdims=0),
        node("Abs", ["largest"], ["size"]),
        node("Cast", ["size"], ["whole"], to=TensorProto.INT64),
        node("Unsqueeze", ["whole", "axis"], ["k"]),
        node("TopK", ["deep", "k"], ["best", "at"], axis=3),
        node("Softmax", ["best"], ["z"]),
    ]
    return model(tail, [info("z"), info("at", TensorProto.INT64)], [constant("axis", np.array([0]))])


def optionals() -> onnx.ModelProto:
    """An optional between operators, and as an output."""
    tail = [
        node("Optional", ["deep"], ["perhaps"]),
        node("OptionalHasElement", ["perhaps"], ["has"]),
        node("OptionalGetElement", ["perhaps"], ["y"]),
        conv("y", "z"),
    ]
    return model(tail, [info("z"), info("has", TensorProto.BOOL), optional("perhaps")])


def maps() -> onnx.ModelProto:
    """A sequence of maps as an output, as classifiers of scikit-learn have it."""
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    listed = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, number))
    tail = [
        node("GlobalAveragePool", ["deep"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("ZipMap", ["flat"], ["z"], domain="ai.onnx.ml", classlabels_int64s=list(range(8))),
    ]
    return model(tail, [helper.make_value_info("z", listed), info("deep")], domains=["ai.onnx.ml"])


def contributed() -> onnx.ModelProto:
    """Operators of onnxruntime itself, of whose results onnx knows nothing."""
    tail = [
        node("FusedConv", ["deep", "w"], ["g"], domain="com.microsoft", activation="Relu", pads=[1, 1, 1, 1]),
        node("FusedConv", ["g", "w"], ["h"], domain="com.microsoft", activation="Tanh", pads=[1, 1, 1, 1]),
        conv("h", "z"),
    ]
    return model(tail, [info("z")], domains=["com.microsoft"])


def declared() -> onnx.ModelProto:
    """The file tells the shape of what such an operator yields."""
    tail = [node("BiasGelu", ["deep", "bias"], ["g"], domain="com.microsoft"), conv("g", "z")]
    made = model(tail, [info("z")], [constant("bias", np.ones(16, np.float32))], domains=["com.microsoft"])
    made.graph.value_info.append(info("g", shape=SHAPE))
    return made


def functions() -> onnx.ModelProto:
    """A function with an attribute, of another operator set, called in the graph and in the body of a Loop."""
    act = helper.make_function(
        "my.functions", "Act", ["a"], ["b"], [node("LeakyRelu", ["a"], ["b"])], [helper.make_opsetid("", 16)], ["alpha"]
    )
    slope = act.node[0].attribute.add()
    slope.name = slope.ref_attr_name = "alpha"
    slope.type = onnx.AttributeProto.FLOAT
    body = graph(
        "body",
        [node("Act", ["acc"], ["next"], domain="my.functions", alpha=0.5), node("Identity", ["on"], ["still"])],
        [info("i", TensorProto.INT64, ()), info("on", TensorProto.BOOL, ()), info("acc", shape=SHAPE)],
        [info("still", TensorProto.BOOL, ()), info("next", shape=SHAPE)],
    )
    tail = [
        node("Act", ["deep"], ["a"], domain="my.functions", alpha=0.3),
        node("Loop", ["n", "", "a"], ["y"], body=body),
        conv("y", "z"),
    ]
    return model(tail, [info("z")], [constant("n", np.int64(2))], domains=["my.functions"], functions=[act])


def narrow_types() -> onnx.ModelProto:
    """Weights of four bits, activations of eight."""
    quantised = helper.make_tensor("q", TensorProto.INT4, (8, 8, 3, 3), [(7 * at) % 15 - 7 for at in range(8 * 8 * 9)])
    tail = [
        node("DequantizeLinear", ["q", "scales"], ["wide"], axis=0),
        node("Conv", ["deep", "wide"], ["y"], pads=[1, 1, 1, 1]),
        node("Cast", ["y"], ["small"], to=TensorProto.FLOAT8E4M3FN),
        node("Cast", ["small"], ["back"], to=TensorProto.FLOAT),
        conv("back", "z"),
    ]
    scales = constant("scales", np.full(8, 0.01, np.float32))
    return model(tail, [info("z"), info("small", TensorProto.FLOAT8E4M3FN)], [quantised, scales], opset=21)


def training() -> onnx.ModelProto:
    """Operators that yield more when they train."""
    tail = [
        node("BatchNormalization", ["deep", *["ones"] * 4], ["y", "mean", "variance"], training_mode=1),
        node("Dropout", ["y", "ratio", "train"], ["d", "mask"]),
        conv("d", "z"),
    ]
    weights = [constant("ones", np.ones(8, np.float32)), constant("ratio", np.float32(0)), constant("train", True)]
    return model(tail, [info("z"), info("mean"), info("variance"), info("mask", TensorProto.BOOL)], weights)


def empty() -> onnx.ModelProto:
    """A tensor without elements, as an output and joined to others."""
    tail = [
        node("Slice", ["deep", "at", "at", "axis"], ["none"]),
        node("Concat", ["none", "deep"], ["y"], axis=2),
        conv("y", "z"),
    ]
    return model(tail, [info("z"), info("none")], [constant("at", np.array([4])), constant("axis", np.array([2]))])


def texts() -> onnx.ModelProto:
    """Strings, of known shape and of one that depends on the data."""
    tail = [
        node("Cast", ["deep"], ["z"], to=TensorProto.STRING),
        node("NonZero", ["front"], ["where"]),
        node("Cast", ["where"], ["places"], to=TensorProto.STRING),
    ]
    return model(tail, [info("z", TensorProto.STRING), info("places", TensorProto.STRING)])


def unsorted() -> onnx.ModelProto:
    """A node in front of those that it needs, and an output that is an input, without a type."""
    made = model([conv("y", "z"), node("Neg", ["deep"], ["y"])], [onnx.ValueInfoProto(name="z")])
    made.graph.output.append(info("x", shape=(1, 4, 16, 16)))
    return made


def sparse() -> onnx.ModelProto:
    """Weights and constants of which only some elements are given."""
    values = helper.make_tensor("bias", TensorProto.FLOAT, [2], [1.0, 2.0])
    by_axis = helper.make_tensor("", TensorProto.INT64, [2, 2], [0, 3, 0, 9])
    flat = helper.make_tensor("", TensorProto.INT64, [2], [3, 9])
    tail = [
        node("Constant", [], ["more"], sparse_value=helper.make_sparse_tensor(values, flat, [16])),
        node("Add", ["deep", "bias"], ["a"]),
        node("Add", ["a", "more"], ["y"]),
        conv("y", "z"),
    ]
    made = model(tail, [info("z")])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, by_axis, [1, 16]))
    return made


def experimental() -> onnx.ModelProto:
    """An operator that ONNX has dropped and onnxruntime has not."""
    tail = [node("ImageScaler", ["deep"], ["y"], scale=0.5, bias=[0.0] * 8), conv("y", "z")]
    return model(tail, [info("z")], opset=7)


def sequence_input() -> onnx.ModelProto:
    """A request brings a sequence."""
    tail = [node("SequenceAt", ["items", "one"], ["item"]), node("Add", ["item", "deep"], ["z"])]
    return model(tail, [info("z"), info("front")], [constant("one", np.int64(1))], [sequence("items")])


def optional_input() -> onnx.ModelProto:
    """A request brings nothing."""
    given = graph("given", [node("OptionalGetElement", ["perhaps"], ["it"])], [], [info("it")])
    instead = graph("instead", [node("Identity", ["deep"], ["other"])], [], [info("other")])
    tail = [
        node("OptionalHasElement", ["perhaps"], ["has"]),
        node("If", ["has"], ["y"], then_branch=given, else_branch=instead),
        node("Add", ["y", "deep"], ["z"]),
    ]
    return model(tail, [info("z")], inputs=[optional("perhaps")])


def any_rank_input() -> onnx.ModelProto:
    """A request brings a tensor of any rank."""
    return model([node("Add", ["free", "deep"], ["z"])], [info("z"), info("front")], inputs=[info("free")])


CASES = (
    nested_if, loop, loop_over_sequence, scan, non_zero, computed_size, optionals, maps, contributed, declared,
    functions, narrow_types, training, empty, texts, unsorted, sparse, experimental, sequence_input,
    optional_input, any_rank_input,
)  # fmt: skip
FEEDS: dict[str, Any] = {
    "items": [np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)],
    "perhaps": None,
    "free": np.ones((8, 1, 1), np.float32),
}
"""By name of the input; ``x`` is random."""
