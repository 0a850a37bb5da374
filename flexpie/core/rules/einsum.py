"""Einsum: every letter is an axis; letters of the output are divided with it, the others are summed over."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from flexpie.core.region import Interval, Region
from flexpie.core.rules.base import BoundOperator, Regions, Rule, has_elements, sole

_TERM = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
_TERMS = re.compile(rf"{_TERM}(,{_TERM})*(->{_TERM})?")
_BROADCAST = "0123456789"
"""Stand for the axes of an ellipsis, the last axis first."""


@dataclass(frozen=True)
class Equation:
    """An equation of which every axis has a letter, or a digit where it belongs to an ellipsis."""

    inputs: tuple[str, ...]
    """Letters of each input's axes, each at most once."""
    output: str
    """Letters of the output's axes."""


@lru_cache(maxsize=1024)
def parse(text: str, ranks: tuple[int, ...]) -> Equation | None:
    """The equation for inputs of these ranks; None where it takes a diagonal, does not fit, or is none."""
    text = "".join(text.split())
    if not _TERMS.fullmatch(text):
        return None
    left, arrow, output = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        return None
    hidden = [
        rank - len(term.replace("...", "")) if "..." in term else 0 for term, rank in zip(terms, ranks, strict=True)
    ]
    if not 0 <= min(hidden) <= max(hidden) <= len(_BROADCAST):
        return None
    inputs = tuple(term.replace("...", _digits(count)) for term, count in zip(terms, hidden, strict=True))
    counts = Counter("".join(inputs))
    if arrow:
        output = output.replace("...", _digits(max(hidden)))
    else:
        letters = sorted(letter for letter, count in counts.items() if count == 1 and letter.isalpha())
        output = _digits(max(hidden)) + "".join(letters)
    if [len(term) for term in inputs] != list(ranks):
        return None
    if any(len(set(term)) < len(term) for term in (*inputs, output)) or not set(output) <= set(counts):
        return None
    return Equation(inputs, output)


def _digits(count: int) -> str:
    return _BROADCAST[:count][::-1]


class EinsumRule(Rule):
    """Einsum where no input has a letter twice. An input may repeat its only element along an axis."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not where a letter stands for several lengths."""
        equation = _equation(bound)
        if equation is None or not has_elements(bound) or len(equation.output) != len(bound.output().shape):
            return False
        lengths = _lengths(bound, equation)
        pairs = zip(equation.inputs, bound.inputs, strict=True)
        axes = [axis for term, spec in pairs if spec for axis in zip(term, spec.shape, strict=True)]
        return all(length in (1, lengths[letter]) for letter, length in axes) and bound.output().shape == tuple(
            lengths[letter] for letter in equation.output
        )

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The part of every letter of the output; summed letters whole."""
        equation = _checked(bound)
        parts = dict(zip(equation.output, sole(produced), strict=True))
        return tuple(
            Region(
                parts[letter] if letter in parts and length > 1 else Interval(0, length)
                for letter, length in zip(term, bound.input(index).shape, strict=True)
            )
            for index, term in enumerate(equation.inputs)
        )

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """A multiply-add per output element, summed index and further input."""
        equation = _checked(bound)
        lengths = _lengths(bound, equation).items()
        summed = math.prod(length for letter, length in lengths if letter not in equation.output)
        return 2 * max(1, len(equation.inputs) - 1) * summed * sole(produced).size


def _lengths(bound: BoundOperator, equation: Equation) -> dict[str, int]:
    """Length of each letter's axis."""
    found: dict[str, int] = {}
    for index, term in enumerate(equation.inputs):
        for letter, length in zip(term, bound.input(index).shape, strict=True):
            found[letter] = max(found.get(letter, 1), length)
    return found


def _equation(bound: BoundOperator) -> Equation | None:
    return parse(bound.text("equation", ""), tuple(len(spec.shape) for spec in bound.inputs if spec is not None))


def _checked(bound: BoundOperator) -> Equation:
    equation = _equation(bound)
    assert equation is not None, "used without asking supports()"
    return equation
