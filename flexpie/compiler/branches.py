"""Sub-graphs of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def subgraphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The sub-graphs in a node's attributes, without those inside of them."""
    for attr in node.attributes.values():
        if attr.type is ir.AttributeType.GRAPH:
            yield attr.value
        elif attr.type is ir.AttributeType.GRAPHS:
            yield from attr.value


def captured_by(node: ir.Node) -> Iterator[str]:
    """Names of outer tensors that the node's sub-graphs read."""
    for graph in subgraphs_of(node):
        members = list(graph.all_nodes())
        nested = [graph, *(inner for member in members for inner in subgraphs_of(member))]
        own = {value for inner in nested for value in (*inner.inputs, *inner.initializers.values())}
        own |= {value for member in members for value in member.outputs}
        reads = [*(value for inner in nested for value in inner.outputs), *(v for m in members for v in m.inputs)]
        yield from (value.name or "" for value in reads if value is not None and value not in own)


def keep_branch_outputs(graph: ir.Graph) -> None:
    """Let sub-graphs yield their outputs themselves. Simplifying may have left an outer value there, or one of the
    sub-graph's own inputs or initializers, which onnxruntime refuses or takes for something else."""
    for node in list(graph.all_nodes()):
        for inner in subgraphs_of(node):
            for index, value in enumerate(inner.outputs):
                producer = value.producer()
                if producer is None or producer.graph is not inner:
                    copy = ir.Node("", "Identity", [value], name=f"{value.name}/output")
                    copy.outputs[0].name = f"{value.name}/{node.name or node.op_type}/{index}"
                    copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
                    inner.append(copy)
                    inner.outputs[index] = copy.outputs[0]
