"""The text form of an exchange and of the cluster that it was measured on: what a cost model is asked about it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from flexpie.core.cluster import MASTER_NAME, Cluster, Device, Link, Topology
from flexpie.core.rates import DeviceRates
from flexpie.planner.cost import Array
from flexpie.traces.samples import ExchangeSample


def exchange_of(sample: ExchangeSample) -> tuple[Cluster, Array]:
    """What to ask a cost model about a sample: `CostModel(cluster).exchange_seconds(nbytes)`.

    `nbytes` has shape [n + 1, n + 1]. Raises ValueError for texts that this module did not write.
    """
    try:
        return exchange_in(cluster_from_text(sample.cluster), sample.traffic)
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"not an exchange: {error}") from None


def exchange_in(cluster: Cluster, traffic: str) -> tuple[Cluster, Array]:
    """A cluster, and traffic among its devices that `traffic_text` wrote.

    Raises ValueError for a text that it did not write.
    """
    try:
        nbytes = np.array(json.loads(traffic), dtype=np.float64)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not an exchange: {error}") from None
    if nbytes.shape != (len(cluster.devices) + 1,) * 2:
        raise ValueError(f"not an exchange: traffic of {nbytes.shape} among {len(cluster.devices)} devices")
    return cluster, nbytes


def traffic_text(nbytes: Array) -> str:
    """JSON: a list of rows, one for each source; the last row and column are the master's."""
    return json.dumps(nbytes.astype(np.int64).tolist(), separators=(",", ":"))


def configuration_of(pattern: str, topology: Topology, text: str) -> str:
    """Equal for equal exchanges."""
    return hashlib.sha256(f"{pattern} {topology.value} {text}".encode()).hexdigest()[:16]


def cluster_text(cluster: Cluster) -> str:
    """JSON of what a cost model needs to know of a cluster; names are indices, the master's is behind all devices'."""
    names = [*(device.name for device in cluster.devices), MASTER_NAME]
    content = {
        "topology": cluster.topology.value,
        "center": names.index(cluster.center) if cluster.center in names else None,
        "missing": [[names.index(end) for end in ends] for ends in sorted(cluster.missing)],
        "rates": [_rounded(dataclasses.astuple(device.rates)) for device in cluster.devices],
        "link": _rounded(dataclasses.astuple(cluster.link)),
        "links": [
            [names.index(source), names.index(destination), *_rounded(dataclasses.astuple(link))]
            for (source, destination), link in sorted(cluster.links.items())
        ],
    }
    return json.dumps(content, separators=(",", ":"))


def cluster_from_text(text: str) -> Cluster:
    """The cluster that `cluster_text` wrote, with devices called by their indices."""
    content: dict[str, Any] = json.loads(text)
    devices = tuple(
        Device(str(at), f"device-{at}:1", measured=DeviceRates(*rates)) for at, rates in enumerate(content["rates"])
    )
    names = [*(device.name for device in devices), MASTER_NAME]
    return Cluster(
        devices,
        Link(*content["link"]),
        Topology(content["topology"]),
        {(names[source], names[destination]): Link(*link) for source, destination, *link in content["links"]},
        None if content["center"] is None else str(content["center"]),
        frozenset((str(source), str(destination)) for source, destination in content["missing"]),
    )


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
