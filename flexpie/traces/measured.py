"""From traces to what estimators are trained on."""

from __future__ import annotations

import numpy as np

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.planner.cost import placed
from flexpie.planner.estimator.exchanges import MeasuredExchanges, measured_exchanges
from flexpie.planner.estimator.features import describe
from flexpie.planner.estimator.training import Measured
from flexpie.traces.samples import ComputeSample, ExchangeSample
from flexpie.traces.store import Traces
from flexpie.traces.traffic import cluster_from_text, exchange_in
from flexpie.traces.works import work_from_text

_SPEEDS = (
    "rates_dense_flops_per_second",
    "rates_depthwise_flops_per_second",
    "rates_matrix_flops_per_second",
    "rates_element_flops_per_second",
    "rates_memory_bytes_per_second",
    "rates_node_seconds",
)
"""Columns, in the order of `flexpie.planner.estimator.features.speeds_of`."""


_ENTERING, _LEAVING = ("first", "only"), ("last", "only")
"""Positions of layers that read what enters their segment, and of those that yield what leaves it."""


def measured_layers(traces: Traces[ComputeSample]) -> Measured:
    """The layers of compute traces; what happens at the borders of segments is left out.

    Raises ``INVALID_TRACES`` for a work that is none.
    """
    columns = traces.columns
    layers = np.flatnonzero(columns["place"] == "layer")
    asked = list(zip(columns["work"][layers].tolist(), columns["position"][layers].tolist(), strict=True))
    distinct = {key: number for number, key in enumerate(dict.fromkeys(asked))}
    try:
        parsed = {text: work_from_text(text) for text in dict.fromkeys(text for text, _ in distinct)}
    except ValueError as error:
        raise _invalid(error) from None
    works = [placed(parsed[text], place in _ENTERING, place in _LEAVING) for text, place in distinct]
    of = np.array([distinct[key] for key in asked], dtype=np.int64)
    return Measured(
        described=describe(works)[of],
        op_types=columns["op_type"][layers],
        configurations=columns["configuration"][layers],
        devices=columns["device"][layers],
        launches=columns["launch"][layers],
        speeds=np.column_stack([columns[name][layers] for name in _SPEEDS]),
        seconds=columns["seconds"][layers],
    )


def exchanges(traces: Traces[ExchangeSample]) -> MeasuredExchanges:
    """The exchanges of exchange traces.

    Raises ``INVALID_TRACES`` for a cluster or traffic that is none.
    """
    columns = traces.columns
    try:
        clusters = {text: cluster_from_text(text) for text in set(columns["cluster"])}
        asked = [
            exchange_in(clusters[cluster], traffic)
            for cluster, traffic in zip(columns["cluster"], columns["traffic"], strict=True)
        ]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise _invalid(error) from None
    return measured_exchanges(asked, columns["configuration"], columns["device"], columns["seconds"])


def _invalid(error: Exception) -> FlexPieError:
    return FlexPieError(
        ErrorCode.INVALID_TRACES, f"A trace does not say what was measured: {error}.", "Collect the traces again."
    )
