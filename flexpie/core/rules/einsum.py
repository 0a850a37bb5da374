"""Einsum: every letter is an axis; letters of the output are divided with it, the others are summed over."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole

_TERMS = re.compile(r"[A-Za-z]*(,[A-Za-z]*)*(->[A-Za-z]*)?")


@dataclass(frozen=True)
class Equation:
    """An equation of plain letters."""

    inputs: tuple[str, ...]
    """Letters of each input's axes, each at most once."""
    output: str
    """Letters of the output's axes."""


@lru_cache(maxsize=1024)
def parse(text: str) -> Equation | None:
    """The equation; None where it has an ellipsis, takes a diagonal, or is none."""
    text = "".join(text.split())
    if not _TERMS.fullmatch(text):
        return None
    left, arrow, output = text.partition("->")
    inputs = tuple(left.split(","))
    counts = Counter("".join(inputs))
    if not arrow:
        output = "".join(sorted(letter for letter, count in counts.items() if count == 1))
    if any(len(set(term)) < len(term) for term in (*inputs, output)) or not set(output) <= set(counts):
        return None
    return Equation(inputs, output)


class EinsumRule(Rule):
    """Einsum of plain letters."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where a letter stands for several lengths."""
        equation = parse(bound.text("equation", ""))
        if equation is None or not has_elements(bound) or len(equation.inputs) != len(bound.inputs):
            return False
        terms = (*equation.inputs, equation.output)
        shapes = [spec.shape for spec in (*bound.inputs, bound.output()) if spec is not None]
        if [len(term) for term in terms] != [len(shape) for shape in shapes]:
            return False
        lengths: dict[str, int] = {}
        axes = [axis for term, shape in zip(terms, shapes, strict=True) for axis in zip(term, shape, strict=True)]
        return all(lengths.setdefault(letter, length) == length for letter, length in axes)

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The part of every letter of the output; summed letters whole."""
        equation = _checked(bound)
        parts = dict(zip(equation.output, sole(produced), strict=True))
        return tuple(
            Region(
                parts.get(letter, Interval(0, length))
                for letter, length in zip(term, bound.input(index).shape, strict=True)
            )
            for index, term in enumerate(equation.inputs)
        )

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per output element, summed index and further input."""
        equation = _checked(bound)
        lengths = {
            letter: length
            for index, term in enumerate(equation.inputs)
            for letter, length in zip(term, bound.input(index).shape, strict=True)
        }
        summed = math.prod(length for letter, length in lengths.items() if letter not in equation.output)
        return 2 * max(1, len(equation.inputs) - 1) * summed * sole(produced).size


def _checked(bound: BoundOperator) -> Equation:
    equation = parse(bound.text("equation", ""))
    assert equation is not None, "used without asking supports()"
    return equation
