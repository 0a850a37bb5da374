"""Operator rules: which input regions are needed to compute an output region."""

from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, WholeRule, bind
from flexpie.core.rules.registry import rule_for

__all__ = ["BoundOperator", "LocalForm", "Regions", "Rule", "WholeRule", "bind", "rule_for"]
