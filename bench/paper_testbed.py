"""The testbed of the FlexPie paper (arXiv 2502.15312), as far as it is published.

Its devices are TI TMS320C6678 (a DSP without an operating system) over SRIO, its topologies a ring and a parameter
server. What it does not publish, the rates of its devices and how much of a link's bandwidth arrives, is fitted to its
figures: `FITTED`.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import flexpie_models
from bench.paper_bert import bert_as_convolutions
from flexpie import pipeline
from flexpie.benchmark import paper
from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.graph import LayerGraph
from flexpie.core.rates import DeviceRates
from flexpie.planner.cost import MessageCosts
from flexpie.planner.physics import PhysicsCostModel

MODELS = tuple(paper.MODELS)
"""As in the figures."""


@dataclass(frozen=True)
class Testbed:
    """What is fitted."""

    rates: DeviceRates
    link_efficiency: float
    """Bytes of ours that arrive per second, as a part of the nominal bandwidth; above 1 where the paper's tensors are
    smaller than fp32."""
    latency_seconds: float

    def cluster(self, nodes: int, bandwidth: str, topology: str) -> Cluster:
        """The cluster of a cell; names as in the figures.

        In the paper nobody brings the inputs and nobody fetches the outputs: the master's link takes no time.
        """
        devices = tuple(Device(f"dsp-{index}", f"dsp-{index}:1", measured=self.rates) for index in range(nodes))
        link = Link(self.link_efficiency * paper.BITS_PER_SECOND[bandwidth] / 8, self.latency_seconds)
        pairs = itertools.permutations((device.name for device in devices), 2)
        return Cluster(devices, Link(math.inf, 0.0), paper.TOPOLOGIES[topology], dict.fromkeys(pairs, link))


class PaperCostModel(PhysicsCostModel):
    """The physics of the paper's devices; the master's messages cost the master nothing."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        devices = np.array([1.0] * len(cluster.devices) + [0.0])
        costs = self._messages
        self._messages = MessageCosts(
            costs.send_seconds * devices,
            costs.receive_seconds * devices,
            costs.seconds_per_byte * devices,
            costs.start_seconds,
        )


def graph_of(model: str) -> LayerGraph:
    """A model of the figures as a layer graph."""
    if model == "B":
        return bert_as_convolutions()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}.onnx"
        path.write_bytes(flexpie_models.build(paper.MODELS[model]).SerializeToString())
        return pipeline.import_file(path).graph


FITTED = Testbed(
    rates=DeviceRates(
        dense_flops_per_second=14e9,
        depthwise_flops_per_second=3e9,
        matrix_flops_per_second=5e9,
        element_flops_per_second=1.5e9,
        memory_bytes_per_second=1.5e9,
        node_seconds=10e-6,
        send_seconds=4e-6,
        receive_seconds=4e-6,
        end_seconds_per_byte=0.3e-9,
        start_seconds=700e-6,
    ),
    link_efficiency=1.6,
    latency_seconds=5e-6,
)
"""Chosen by hand from the heights of all bars, the searched strategies' too: see docs/simulation.md."""
