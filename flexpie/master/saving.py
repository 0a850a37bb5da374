"""Deployments as bytes: a master goes on with them after a restart without their models, planner or compiler."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from flexpie import __version__
from flexpie.core.boundary import Boundary
from flexpie.core.cluster import Cluster
from flexpie.core.errors import FlexPieError
from flexpie.core.program import MASTER, DeviceProgram, Feed
from flexpie.core.tensor import TensorSpec
from flexpie.master.cluster_file import ModelEntry
from flexpie.master.deployment import Deployment
from flexpie.master.events import DeviceName, PlanSummary
from flexpie.master.interface import Interface
from flexpie.master.summaries import summary_from_proto, summary_to_proto
from flexpie.wire.codec import (
    dtype_from_name,
    program_from_proto,
    program_to_proto,
    step_from_proto,
    step_to_proto,
    value_from_proto,
    value_to_proto,
)
from flexpie.wire.v1 import saved_pb2


@dataclass(frozen=True)
class Saved:
    """A deployment that was ready, and all that is needed to go on with it."""

    deployment: Deployment
    """Without what it takes of the devices' memory."""
    planned_over: tuple[DeviceName, ...]
    programs: Mapping[int, DeviceProgram]
    """By index of the device."""
    interface: Interface
    """Of the model under this profile."""
    summary: PlanSummary
    plan_file: str = ""
    """The plan as text; empty for what an earlier version saved."""

    @property
    def participants(self) -> frozenset[DeviceName]:
        """The devices without which it does not work."""
        return frozenset(self.summary.participants)


def fingerprint(content: str, entry: ModelEntry, profile: int, cluster: Cluster) -> str:
    """SHA-256 (hex) of everything that a deployment follows from: what the model's files hold (`content`, a hash), how
    it is to be served, the cluster with its calibration, and the version of FlexPie."""
    shapes = sorted((name, tuple(shape)) for name, shape in entry.profiles[profile].items())
    served = (entry.name, profile, len(entry.profiles), shapes, entry.scheme, entry.objective, entry.plan,
              entry.serving.max_batch, entry.boundary.value)  # fmt: skip
    return _hash(__version__, content, served, cluster_text(cluster))


def plan_key(
    model: str, siblings: Sequence[str], cluster: Cluster, scheme: str, objective: str, boundary: Boundary
) -> str:
    """SHA-256 (hex) of everything that a search for a plan depends on; `model` and `siblings` are the signatures of
    layer graphs, and the cluster is that of the devices that are there, with the memory that is left."""
    return _hash(__version__, model, tuple(siblings), cluster_text(cluster), scheme, objective, boundary.value)


def cluster_text(cluster: Cluster) -> str:
    """All that is known of a cluster, the same text for the same knowledge."""
    links = sorted(cluster.links.items())
    rest = (cluster.devices, cluster.link, cluster.topology.value, cluster.center, sorted(cluster.missing))
    return repr((rest, links))


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------- bytes


def saved_to_bytes(saved: Saved) -> bytes:
    """A ``SavedDeployment`` message."""
    deployment = saved.deployment
    message = saved_pb2.SavedDeployment(
        deployment_id=deployment.id,
        devices=deployment.devices,
        planned_over=saved.planned_over,
        programs=[program_to_proto(program) for program in saved.programs.values()],
        master=_master_to_proto(deployment.program),
        outputs=map(_tensor_to_proto, deployment.outputs),
        shown_inputs=map(_tensor_to_proto, saved.interface.inputs),
        shown_outputs=map(_tensor_to_proto, saved.interface.outputs),
        plan=summary_to_proto(saved.summary),
        plan_file=saved.plan_file,
        turns=deployment.turns,
    )
    return message.SerializeToString()


def saved_from_bytes(content: bytes, model: str) -> Saved | None:
    """The reverse of `saved_to_bytes`; None for what this version cannot read."""
    try:
        message = saved_pb2.SavedDeployment.FromString(content)
        programs = {item.device: program_from_proto(item) for item in message.programs}
        master = _master_from_proto(message.master)
        summary = summary_from_proto(message.plan)
    except (DecodeError, FlexPieError, LookupError, ValueError):
        return None
    deployment = Deployment(
        id=message.deployment_id,
        model=model,
        devices=tuple(message.devices),
        participants=tuple(sorted(programs)),
        program=master,
        outputs=_tensors(message.outputs),
        boundary=summary.boundary,
        turns=dict(message.turns),
    )
    interface = Interface(_tensors(message.shown_inputs), _tensors(message.shown_outputs))
    return Saved(deployment, tuple(message.planned_over), programs, interface, summary, message.plan_file)


def _master_to_proto(program: DeviceProgram) -> saved_pb2.MasterProgram:
    feeds = {position: step.value for position, step in enumerate(program.steps) if isinstance(step, Feed)}
    return saved_pb2.MasterProgram(
        values=map(value_to_proto, program.values),
        steps=[step_to_proto(step) for step in program.steps if not isinstance(step, Feed)],
        feed_positions=feeds.keys(),
        feed_values=feeds.values(),
        outputs=program.outputs,
    )


def _master_from_proto(message: saved_pb2.MasterProgram) -> DeviceProgram:
    steps = [step_from_proto(step) for step in message.steps]
    for position, value in zip(message.feed_positions, message.feed_values, strict=True):
        steps.insert(position, Feed(value))
    values = tuple(map(value_from_proto, message.values))
    return DeviceProgram(MASTER, values, tuple(steps), tuple(message.outputs))


def _tensor_to_proto(spec: TensorSpec) -> saved_pb2.SavedTensor:
    return saved_pb2.SavedTensor(name=spec.name, shape=spec.shape, dtype=spec.dtype.value, opaque=spec.opaque)


def _tensors(messages: Sequence[saved_pb2.SavedTensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(m.name, tuple(m.shape), dtype_from_name(m.dtype), m.opaque) for m in messages)
