"""The one function per operator from which planning and slicing follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flexpie.core.graph import AttributeValue, Constant, LayerGraph, Operator, Reals
from flexpie.core.region import Region
from flexpie.core.tensor import TensorSpec

Regions = tuple[Region | None, ...]
"""One region per input (or output) of an operator; None where the input (output) is omitted or not needed."""


@dataclass(frozen=True)
class BoundOperator:
    """An operator with the specifications and known values of its tensors."""

    operator: Operator
    inputs: tuple[TensorSpec | None, ...]
    """None for an omitted optional input."""
    outputs: tuple[TensorSpec | None, ...]
    """None for an omitted optional output."""
    constants: tuple[Constant | None, ...]
    """Per input: its values where it is a known small integer tensor."""
    reals: tuple[Reals | None, ...] = ()
    """Per input: its values where it is a known small floating-point vector; shorter where none is known."""
    found: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What has been found out about it and all operators that look the same: they are asked for again and again."""

    def integer(self, name: str, default: int) -> int:
        """Integer attribute."""
        value = self.operator.attributes.get(name, default)
        assert isinstance(value, int), f"{self.operator.name}: attribute {name} is not an integer"
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Attribute that is a list of integers; None when absent."""
        value = self.operator.attributes.get(name)
        if value is None:
            return None
        assert isinstance(value, tuple), f"{self.operator.name}: attribute {name} is not a list"
        return tuple(int(item) for item in value)

    def real_numbers(self, name: str) -> Reals | None:
        """Attribute that is a list of floating-point numbers; None when absent."""
        value = self.operator.attributes.get(name)
        if value is None:
            return None
        assert isinstance(value, tuple), f"{self.operator.name}: attribute {name} is not a list"
        return tuple(float(item) for item in value)

    def text(self, name: str, default: str) -> str:
        """String attribute."""
        return str(self.operator.attributes.get(name, default))

    def input(self, index: int) -> TensorSpec:
        """Specification of an input that must be there."""
        spec = self.inputs[index]
        assert spec is not None, f"{self.operator.name}: input {index} is missing"
        return spec

    def output(self, index: int = 0) -> TensorSpec:
        """Specification of an output that must be there."""
        spec = self.outputs[index]
        assert spec is not None, f"{self.operator.name}: output {index} is missing"
        return spec


@dataclass(frozen=True)
class LocalForm:
    """How an operator changes when it computes only a part: the rest of its node stays as it is."""

    attributes: Mapping[str, AttributeValue | None] = field(default_factory=dict)
    """Attributes to set; None removes one."""
    constants: Mapping[int, Constant] = field(default_factory=dict)
    """Inputs (by index) to replace by an int64 vector with these values, or to append where the node has none
    there. `needs` asks for nothing (None) of an input that is replaced."""
    yields: Mapping[int, Region] = field(default_factory=dict)
    """Outputs (by index) of which the node yields more than `produced`: the region that it yields, in the
    coordinates of the whole tensor (it may reach beyond). A Slice behind the node keeps exactly `produced`."""
    dropped: frozenset[int] = frozenset()
    """Inputs (by index) that the node goes without, so that later ones move up: members of an open-ended list of
    which nothing is needed."""


class Rule(ABC):
    """What an operator family needs in order to compute a part of its output.

    A rule is used in this order: `produces` rounds what is wanted to what can be computed at once, `needs`
    says which region of every input (weights included) that takes, and `local_form` how the node changes to
    map exactly those input regions to exactly those output regions.
    """

    def supports(self, bound: BoundOperator) -> bool:
        """Whether the rule knows this use of the operator; `rule_for` computes it whole where not.

        The other methods are called only where this holds.
        """
        return has_elements(bound)

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """Whether this input has the output's shape and each output element reads the same place of it.

        Such an operator can join the layer in front of it without any cost in choice of schemes.
        """
        return False

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """The smallest regions, around what is wanted, that can be computed at once.

        `wanted` has at least one region; every region in it is inside its tensor. An output that cannot be
        left away must get a region even when nobody wants it.
        """
        return wanted

    @abstractmethod
    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The region of each input, inside the input's shape, that computing `produced` takes."""

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """The change of attributes and constants by which the node maps `needed` to `produced`."""
        return LocalForm()

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """Floating-point operations (a multiply-add counts 2) of computing `produced`."""
        return sum(region.size for region in produced if region is not None)


class CopyRule(Rule):
    """A rule of an operator that only copies elements."""

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """None."""
        return 0


class WholeRule(Rule):
    """An operator that is computed whole: slow, never wrong."""

    def supports(self, bound: BoundOperator) -> bool:
        """Always."""
        return True

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Every output, whole."""
        return tuple(None if spec is None else spec.whole for spec in bound.outputs)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """Every input, whole."""
        return tuple(whole_inputs(bound))


@dataclass(frozen=True)
class GuardedRule(Rule):
    """A rule where it supports the use of its operator, and `WholeRule` where it does not, or where the operator
    reads or yields something opaque."""

    rule: Rule

    def supports(self, bound: BoundOperator) -> bool:
        """Always."""
        return True

    def links(self, bound: BoundOperator, input_index: int) -> bool:
        """As the rule in charge."""
        return self.in_charge(bound).links(bound, input_index)

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """As the rule in charge."""
        return self.in_charge(bound).produces(bound, wanted)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """As the rule in charge."""
        return self.in_charge(bound).needs(bound, produced)

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """As the rule in charge."""
        return self.in_charge(bound).local_form(bound, produced, needed)

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """As the rule in charge."""
        return self.in_charge(bound).flops(bound, produced)

    def in_charge(self, bound: BoundOperator) -> Rule:
        """The rule that answers for an operator."""
        rule: Rule | None = bound.found.get("rule in charge")
        if rule is None:
            rule = self.rule if not touches_opaque(bound) and self.rule.supports(bound) else _WHOLE
            bound.found["rule in charge"] = rule
        return rule


_WHOLE = WholeRule()


def has_elements(bound: BoundOperator) -> bool:
    """Whether no tensor of the operator has size zero."""
    return all(spec is None or spec.size > 0 for spec in (*bound.inputs, *bound.outputs))


def touches_opaque(bound: BoundOperator) -> bool:
    """Whether some value of the operator has a shape that depends on the data, or is no tensor."""
    return any(spec is not None and spec.opaque for spec in (*bound.inputs, *bound.outputs))


def sole(regions: Regions) -> Region:
    """The region of the first output, which must be there."""
    region = regions[0]
    assert region is not None, "the first output must be produced"
    return region


def whole_inputs(bound: BoundOperator) -> list[Region | None]:
    """Every input whole; None where it is omitted."""
    return [None if spec is None else spec.whole for spec in bound.inputs]


def bind(graph: LayerGraph, operator: Operator) -> BoundOperator:
    """The operator together with what the graph knows of its tensors; made once for each operator of a graph."""
    known: BoundOperator | None = graph.bound.get(operator.name)
    if known is not None and known.operator is operator:
        return known
    bound = BoundOperator(
        operator,
        tuple(graph.tensors[name] if name else None for name in operator.inputs),
        tuple(graph.tensors[name] if name else None for name in operator.outputs),
        tuple(graph.constants.get(name) for name in operator.inputs),
        tuple(graph.reals.get(name) for name in operator.inputs),
        graph.found.setdefault(_look(graph, operator), {}),
    )
    graph.bound[operator.name] = bound
    return bound


def _look(graph: LayerGraph, operator: Operator) -> tuple[object, ...]:
    """Equal for operators of one graph whose parts are equal."""
    slots: dict[str, int] = {"": -1}
    wiring = tuple(slots.setdefault(name, len(slots)) for name in (*operator.inputs, *operator.outputs))
    specs = tuple(
        (spec.shape, spec.dtype, spec.opaque, name in graph.weights, graph.constants.get(name), graph.reals.get(name))
        for name, spec in ((name, graph.tensors[name]) for name in slots if name)
    )
    attributes = tuple(sorted(operator.attributes.items()))
    kind = (operator.op_type, operator.domain, operator.version, operator.opaque, operator.draws)
    neighbours = (
        graph.makers.get(operator.inputs[0], "") if operator.inputs else "",
        graph.first_readers.get(operator.outputs[0], ""),
    )
    return (*kind, attributes, wiring, len(operator.inputs), specs, neighbours)
