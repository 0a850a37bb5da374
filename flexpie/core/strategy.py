"""Names of the ways to plan a model: the search, and what it is compared with."""

from __future__ import annotations

from flexpie.core.scheme import SchemeKind

AUTO = "auto"
"""The search over everything."""
LAYER_WISE = "layer-wise"
FUSED_LAYER = "fused-layer"
SINGLE_DEVICE = SchemeKind.SINGLE.value
PIPELINE = "pipeline"
DATA_PARALLEL = SchemeKind.DATA_PARALLEL.value
"""Every device has the whole model, and answers requests of its own."""

FIXED = tuple(kind.value for kind in SchemeKind if kind not in (SchemeKind.SINGLE, SchemeKind.DATA_PARALLEL))
"""Every layer in this one scheme, an exchange after each."""
BASELINES = (
    SchemeKind.OUT_C.value,
    SchemeKind.IN_H.value,
    SchemeKind.IN_W.value,
    SchemeKind.GRID_2D.value,
    LAYER_WISE,
    FUSED_LAYER,
    SINGLE_DEVICE,
    PIPELINE,
)
"""What a plan is compared with; `flexpie.planner.baselines` says what each one is."""
STRATEGIES = tuple(dict.fromkeys((AUTO, *BASELINES, *FIXED, DATA_PARALLEL)))
"""Every name that may be asked for."""
