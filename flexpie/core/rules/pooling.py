"""Pooling: windows on the spatial axes, every channel for itself."""

from __future__ import annotations

import math

from flexpie.core.region import Region
from flexpie.core.rules.base import BoundOperator, LocalForm, Regions, Rule, has_elements, sole, whole_inputs
from flexpie.core.rules.windows import Window, local_pads, windows


class PoolRule(Rule):
    """MaxPool, AveragePool, LpPool: X [N, C, ...] to [N, C, ...]."""

    def supports(self, bound: BoundOperator) -> bool:
        """Not with indices (they count through the whole tensor) or contradicting shapes."""
        if not has_elements(bound) or any(spec is not None for spec in bound.outputs[1:]):
            return False
        geometry = windows(bound, self._kernel(bound))
        if geometry is None or bound.output().shape[:2] != bound.input(0).shape[:2]:
            return False
        # A last window of ceil_mode that begins in the padding at the end is left out by some runtimes.
        return not bound.integer("ceil_mode", 0) or all(window.starts_inside for window in geometry)

    def produces(self, bound: BoundOperator, wanted: Regions) -> Regions:
        """Windows must meet the input."""
        batch, channels, *spatial = sole(wanted)
        rounded = [window.round(part) for window, part in zip(self._windows(bound), spatial, strict=True)]
        return (Region((batch, channels, *rounded)), *[None] * (len(bound.outputs) - 1))

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """What lies under the windows."""
        batch, channels, *spatial = sole(produced)
        seen = [window.inputs(part) for window, part in zip(self._windows(bound), spatial, strict=True)]
        return (Region((batch, channels, *seen)), *whole_inputs(bound)[1:])

    def local_form(self, bound: BoundOperator, produced: Regions, needed: Regions) -> LocalForm:
        """Explicit pads. `ceil_mode` stays: away from the tensor's end the windows fit exactly and it says
        nothing, and at the end the last window must be cut off, or counted, as in the whole."""
        return LocalForm({"auto_pad": None, "pads": local_pads(self._windows(bound), sole(produced)[2:])})

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """One per window position and output element."""
        return math.prod(self._kernel(bound)) * sole(produced).size

    @staticmethod
    def _kernel(bound: BoundOperator) -> tuple[int, ...]:
        return bound.integers("kernel_shape") or ()

    def _windows(self, bound: BoundOperator) -> tuple[Window, ...]:
        geometry = windows(bound, self._kernel(bound))
        assert geometry is not None, "used without asking supports()"
        return geometry


class GlobalPoolRule(Rule):
    """GlobalAveragePool, GlobalMaxPool, GlobalLpPool: X [N, C, ...] to [N, C, 1, ...]."""

    def needs(self, bound: BoundOperator, produced: Regions) -> Regions:
        """The spatial axes whole."""
        return (Region((*sole(produced)[:2], *bound.input(0).whole[2:])), *whole_inputs(bound)[1:])

    def flops(self, bound: BoundOperator, produced: Regions) -> int:
        """One per input element."""
        return sole(produced).size * math.prod(bound.input(0).shape[2:])
