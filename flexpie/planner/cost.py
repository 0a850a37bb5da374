"""What a cost model is asked: seconds of computing a part of an operator, and seconds of an exchange."""

from __future__ import annotations

import operator as compare
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from flexpie.core.footprint import OperatorPart
from flexpie.core.graph import Layer, LayerGraph, Operator
from flexpie.core.region import Region
from flexpie.core.rules import Regions, bind, rule_for
from flexpie.core.tensor import Shape

Array = npt.NDArray[np.float64]


class Work(NamedTuple):
    """One part of an operator as a cost model sees it: shapes and amounts, no names and no places.

    A tuple, because thousands are made and hashed for each plan.
    """

    op_type: str
    flops: int
    """Floating-point operations; a multiply-add counts 2."""
    bytes_read: int
    """Of activations and weights."""
    bytes_written: int
    weight_bytes: int
    """Of `bytes_read`, what is weights."""
    inputs: tuple[Shape | None, ...]
    """Shape of the needed region of each input, weights included; None where nothing is needed."""
    outputs: tuple[Shape | None, ...]
    """Shape of the computed region of each output."""
    kernel: Shape = ()
    strides: Shape = ()
    group: int = 1
    linked: bool = False
    """Whether it follows another operator in its layer, so that the engine runs both in one pass."""
    dtype: str = "float32"
    """Element type of the first output, by its name in ONNX."""
    cut: tuple[bool, ...] = ()
    """Per axis of the first output: whether less than the whole tensor is computed. Where a tensor that is needed in
    part is there with more around it, the engine has to slice it first."""
    fed_by: str = ""
    """Type of the operator that yields its first input; empty for an input of the model or a weight."""
    read_by: str = ""
    """Type of the first operator that reads its first output; empty where only the reply does. The engine runs some
    pairs as one, or lays out data anew between them."""
    enters: bool = False
    """Whether the layer reads what enters its segment: caches are cold then, and a Reshape copies. What asks without
    knowing where segments begin leaves it out."""
    leaves: bool = False
    """Whether the layer yields what leaves its segment, into memory that nobody has touched."""


LayerWork = tuple[Work, ...]
"""What one device does for one layer: the parts of its operators, in running order; the first is the main one, which
the engine runs together with those that are `linked`."""


@dataclass(frozen=True)
class MessageCosts:
    """Processor seconds of messages at each of n devices and, last, at the master; arrays of shape [n + 1]."""

    send_seconds: Array
    """Of sending a message."""
    receive_seconds: Array
    """Of receiving a message."""
    seconds_per_byte: Array
    """Of each byte, sent or received."""
    start_seconds: Array
    """Of going on when the last message of an exchange is there: waking up, assembling, starting a subgraph."""
    client_seconds: float = 0.0
    """Of a request's way from the client to the master's first step, and again of the answer's way back."""
    client_seconds_per_byte: float = 0.0
    """Of each byte of the inputs, and of the outputs."""


class CostModel(Protocol):
    """Times on one cluster of n devices. Answers are finite and ≥ 0 and depend on the arguments alone."""

    @property
    def messages(self) -> MessageCosts:
        """What messages cost the processors."""
        ...

    @property
    def twins(self) -> tuple[int, ...]:
        """Per device, the first device that computes everything in the same time: itself where none before it does.

        The planner asks for the times of that one only.
        """
        ...

    def compute_seconds(self, device: int, works: Sequence[LayerWork]) -> Array:
        """Seconds that a device takes for each layer's part; an array of shape [len(works)]."""
        ...

    def exchange_seconds(self, nbytes: Array) -> Array:
        """Seconds from the start of an exchange until the last device has its inputs.

        `nbytes[..., source, destination]`, shape [..., n + 1, n + 1], says how much travels; index n is the master
        and the diagonal is 0. An exchange that moves nothing takes 0 seconds, and more bytes never take less time:
        the search's bounds rest on both. Returns an array of shape [...].
        """
        ...


def layer_work(graph: LayerGraph, layer: Layer, parts: Sequence[OperatorPart]) -> LayerWork:
    """The work of a layer's parts, which come last operator first, as `Footprint.extend` returns them."""
    return tuple(work_of(graph, part, part.operator is not layer.operators[0]) for part in reversed(parts))


def placed(works: LayerWork, enters: bool, leaves: bool) -> LayerWork:
    """The same at a border of its segment."""
    if not (enters or leaves):
        return works
    return tuple(work._replace(enters=enters, leaves=leaves) for work in works)


@dataclass(frozen=True)
class FixedTraits:
    """What all parts of an operator have in common; see `Work`."""

    op_type: str
    kernel: Shape
    strides: Shape
    group: int
    linked: bool
    dtype: str
    fed_by: str
    read_by: str


def fixed_traits(graph: LayerGraph, operator: Operator, linked: bool) -> FixedTraits:
    """What all parts of an operator have in common."""
    bound = bind(graph, operator)
    strides = bound.integers("strides") if "strides" in operator.attributes else None
    group = bound.integer("group", 1) if operator.op_type == "Conv" else 1
    dtype = graph.tensors[operator.outputs[0]].dtype.value if operator.outputs[0] else ""
    return FixedTraits(
        op_type=operator.op_type,
        kernel=_kernel(graph, operator),
        strides=strides or (),
        group=group,
        linked=linked,
        dtype=dtype,
        fed_by=graph.makers.get(operator.inputs[0], "") if operator.inputs else "",
        read_by=graph.first_readers.get(operator.outputs[0], ""),
    )


def work_of(graph: LayerGraph, part: OperatorPart, linked: bool = False) -> Work:
    """The work of one operator part; remembered for all operators that look the same."""
    known: dict[object, Work] = bind(graph, part.operator).found.setdefault("works", {})
    key = (part.produced, part.needed, linked)
    if key not in known:
        known[key] = _work_of(graph, part, linked)
    return known[key]


def _work_of(graph: LayerGraph, part: OperatorPart, linked: bool) -> Work:
    operator = part.operator
    traits = fixed_traits(graph, operator, linked)
    read = _sizes(graph, operator.inputs, part.needed)
    return Work(
        op_type=traits.op_type,
        flops=rule_for(operator).flops(bind(graph, operator), part.produced),
        bytes_read=sum(nbytes for _, nbytes in read),
        bytes_written=sum(nbytes for _, nbytes in _sizes(graph, operator.outputs, part.produced)),
        weight_bytes=sum(nbytes for name, nbytes in read if name in graph.weights),
        inputs=_shapes(part.needed),
        outputs=_shapes(part.produced),
        kernel=traits.kernel,
        strides=traits.strides,
        group=traits.group,
        linked=traits.linked,
        dtype=traits.dtype,
        cut=cut_axes(graph, operator, _shapes(part.produced)),
        fed_by=traits.fed_by,
        read_by=traits.read_by,
    )


def _sizes(graph: LayerGraph, names: Sequence[str], regions: Regions) -> list[tuple[str, int]]:
    """Name and bytes of every region that is there; a tensor that is read twice counts once."""
    found: dict[tuple[str, Region], int] = {}
    for name, region in zip(names, regions, strict=True):
        if name and region is not None:
            found[name, region] = region.size * graph.tensors[name].itemsize
    return [(name, nbytes) for (name, _), nbytes in found.items()]


def cut_axes(graph: LayerGraph, operator: Operator, outputs: Sequence[Shape | None]) -> tuple[bool, ...]:
    """`Work.cut` of a part that yields regions of these shapes."""
    name, shape = operator.outputs[0], outputs[0]
    if not name or shape is None:
        return ()
    return tuple(map(compare.lt, shape, graph.tensors[name].shape))


def _shapes(regions: Regions) -> tuple[Shape | None, ...]:
    return tuple(None if region is None else region.shape for region in regions)


def _kernel(graph: LayerGraph, operator: Operator) -> Shape:
    """Spatial extent of the window: of a convolution from its weight, of a pool from its attribute."""
    if operator.op_type == "Conv" and len(operator.inputs) > 1:
        return graph.tensors[operator.inputs[1]].shape[2:]
    window = operator.attributes.get("kernel_shape", ())
    return tuple(int(length) for length in window) if isinstance(window, tuple) else ()
