"""Which rule serves which operator."""

from __future__ import annotations

from flexpie.core.graph import Operator
from flexpie.core.rules.base import Rule, WholeRule

_WHOLE = WholeRule()

_RULES: dict[str, Rule] = {}
"""By operator type of the default operator set."""


def rule_for(operator: Operator) -> Rule:
    """The rule of an operator; without one it is computed whole."""
    if operator.opaque or operator.domain not in {"", "ai.onnx"}:
        return _WHOLE
    return _RULES.get(operator.op_type, _WHOLE)
