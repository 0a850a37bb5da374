"""Whose time a node takes that onnxruntime runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flexpie.compiler import emit, lower
from flexpie.compiler.attribution import Owner, node_owners
from flexpie.core.plan import Plan, Segment
from flexpie.core.scheme import IN_H
from flexpie.worker.engine import OnnxRuntimeEngine
from tests.unit.traces.residual import residual_model


def test_fused_and_inserted_nodes_belong_to_layers_or_borders(tmp_path: Path) -> None:
    """The Add reads less of r0 than the convolutions around it need to be there, so that a Slice is between."""
    model = residual_model()
    graph = model.graph
    layer_of = {operator.name: index for index, layer in enumerate(graph.layers) for operator in layer.operators}
    plan = Plan(graph.signature, ("a", "b"), (Segment(0, len(graph.layers), IN_H, (1.0, 1.0)),))
    lowered = lower(graph, plan)
    lowered = dataclasses.replace(lowered, programs=(lowered.programs[0], None), subgraphs=(lowered.subgraphs[0], ()))
    programs, blobs = emit(model, lowered)
    assert programs[0] is not None
    for name, blob in blobs.items():
        (tmp_path / name).write_bytes(blob.open())
    session = OnnxRuntimeEngine().load_profiled(tmp_path / programs[0].subgraphs[0].model.sha256, tmp_path)
    owners = node_owners(graph, lowered.subgraphs[0][0], session.optimised)
    by_type: dict[str, list[Owner | None]] = {}
    for op_type, owner in owners:
        by_type.setdefault(op_type, []).append(owner)
    assert [owner.layer for owner in by_type["Conv"] if owner] == [layer_of[name] for name in ("c0", "c1", "c2", "y")]
    assert by_type["Slice"] == [Owner(layer=layer_of["sum"])]
    assert by_type["Add"] == [Owner(layer=layer_of["sum"])]
    assert Owner(enters="x") in by_type["ReorderInput"]
    assert Owner(leaves="y") in by_type["ReorderOutput"]
    assert None not in [owner for _, owner in owners]
