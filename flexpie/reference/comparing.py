"""Split against unsplit: random inputs, and how far outputs may differ."""

from flexpie.wire.agreement import Comparison, compare
from flexpie.wire.random_inputs import random_inputs

__all__ = ["Comparison", "compare", "random_inputs"]
