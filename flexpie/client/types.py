"""What a client is told, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flexpie.wire.v1 import holdings_pb2, master_pb2, trace_pb2


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As numpy spells it; "bfloat16" and "string" too."""


@dataclass(frozen=True)
class SegmentInfo:
    """A run of layers without exchange inside."""

    layers: tuple[str, ...]
    scheme: str
    shares: tuple[float, ...]
    """Weight of each device that the model was planned over."""
    compute_seconds: float
    """Predicted, of the slowest device."""
    exchange_seconds: float
    """Predicted, in front of the segment."""
    exchange_bytes: int


@dataclass(frozen=True)
class ProfileInfo:
    """One set of input shapes of a model, and how requests that have them are served."""

    state: str
    """"loading", "ready", "waiting" (for devices) or "failed"."""
    reason: str
    """Why it is not ready."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    deployment_id: str
    segments: tuple[SegmentInfo, ...]
    predicted_seconds: float
    single_device_seconds: float
    """Predicted for the best device alone."""
    devices: tuple[str, ...]
    """Names of the devices that take part."""
    pushed_bytes: int
    """What had to be brought to the devices for this deployment."""
    resident_bytes: Mapping[str, int]
    """What the deployment takes of each device's memory."""
    remark: str
    """What there is to say about its plan, such as that it is not the one that was given."""
    requests_per_second: float
    """Predicted, with many requests in flight."""
    single_device_fits: bool
    """Whether the best device has the memory to serve alone."""
    boundary: str
    """What float32 tensors are between devices: "float32" or "float16"."""


@dataclass(frozen=True)
class ModelInfo:
    """A model and how it is served."""

    name: str
    state: str
    """"loading", "ready", "waiting" (for devices) or "failed": of the profile that is furthest from being ready."""
    reason: str
    """Why it is not ready."""
    inputs: tuple[TensorInfo, ...]
    """A length that differs between profiles is -1."""
    outputs: tuple[TensorInfo, ...]
    """A length that differs between profiles, or depends on the data, is -1."""
    deployment_id: str
    """Of the first profile; so are `segments` and all that is predicted."""
    segments: tuple[SegmentInfo, ...]
    predicted_seconds: float
    single_device_seconds: float
    """Predicted for the best device alone."""
    devices: tuple[str, ...]
    """Names of the devices that take part in some profile."""
    pushed_bytes: int
    """What had to be brought to the devices, for all profiles."""
    resident_bytes: Mapping[str, int]
    """What all profiles take of each device's memory. Each has a copy of the weights of its own there."""
    profiles: tuple[ProfileInfo, ...]
    """One or more."""
    remark: str
    """What there is to say about the plan, such as that it is not the one that was given."""
    requests_per_second: float
    """Predicted, with many requests in flight."""
    single_device_fits: bool
    """Whether the best device has the memory to serve alone."""
    boundary: str
    """What float32 tensors are between devices: "float32" or "float16"."""
    objective: str
    """What the plans are to be best at: "latency", "throughput" or "memory"."""


@dataclass(frozen=True)
class DeviceInfo:
    """A device of the cluster file."""

    name: str
    address: str
    state: str
    """"connecting", "connected", "leaving" (shutting down), "unreachable" or "refused"."""
    reason: str
    worker_id: str
    version: str
    certificate_expires_at: int | None = None
    """When its certificate ends, in seconds since 1970; None where it has none, or was not heard of yet."""


@dataclass(frozen=True)
class Holdings:
    """What the master holds at the moment; nothing of a request that has ended."""

    requests: int
    """Taken: waiting and running."""
    waiting: int
    """For their turn."""
    request_bytes: int
    """Of their inputs."""
    tensors: int
    """Results that came in and were not taken yet."""
    uploads: int
    threads: int
    tasks: int


@dataclass(frozen=True)
class MasterStatus:
    """The whole system at a glance."""

    version: str
    uptime_seconds: float
    devices: tuple[DeviceInfo, ...]
    models: tuple[ModelInfo, ...]
    requests_in_flight: int
    requests_done: int
    requests_failed: int
    scattered_bytes: int
    """Payload that the master sent to workers."""
    gathered_bytes: int
    """Payload that the master received from workers."""
    requests_refused: int
    """Not taken, because the master held as many as it may."""
    batches: int
    """Runs of several requests at once."""
    batched_requests: int
    """That these runs answered."""
    answers_checked: int
    """Compared with those of one device alone, as the cluster file's `self_check` says."""
    answers_wrong: int
    holdings: Holdings
    certificate_expires_at: int | None = None
    """When the master's certificate ends, in seconds since 1970; None where it has none."""


@dataclass(frozen=True)
class LoadProgress:
    """How far the loading of a model is."""

    stage: str
    """"upload", "import", "plan", "compile", "push" or "build"."""
    done: int
    total: int
    """0 where it is not known."""
    unit: str
    """Of `done` and `total`: "bytes", "devices", or "seconds" since the stage began."""
    profile: int = 0
    """Index of the profile under way."""
    profiles: int = 1
    """How many there are."""


@dataclass(frozen=True)
class TraceSpan:
    """Something that a device did for a request."""

    activity: str
    """"computing", "assembling", "sending" or "receiving"."""
    what: str
    """The segment that was computed, the tensor that was assembled, or the number of the exchange."""
    start: float
    """Seconds of the device's monotonic clock: comparable between devices on one machine only."""
    stop: float
    payload_bytes: int
    """Of a message."""


@dataclass(frozen=True)
class RequestTrace:
    """What the devices did for one request."""

    request_id: int
    spans: Mapping[str, tuple[TraceSpan, ...]]
    """By device, in the order in which they ended."""


def model_from_proto(message: master_pb2.ModelInfo) -> ModelInfo:
    """A model and how it is served."""
    profiles = tuple(map(_profile_from_proto, message.profiles)) or (_profile_from_proto(message),)
    return ModelInfo(
        name=message.name,
        state=message.state,
        reason=message.reason,
        inputs=tuple(map(_tensor_from_proto, message.inputs)),
        outputs=tuple(map(_tensor_from_proto, message.outputs)),
        deployment_id=message.deployment_id,
        segments=tuple(map(_segment_from_proto, message.segments)),
        predicted_seconds=message.predicted_seconds,
        single_device_seconds=message.single_device_seconds,
        devices=tuple(message.devices),
        pushed_bytes=message.pushed_bytes,
        resident_bytes=dict(message.resident_bytes),
        profiles=profiles,
        remark=message.remark,
        requests_per_second=message.requests_per_second,
        single_device_fits=not message.single_device_lacks_memory,
        boundary=message.boundary or "float32",
        objective=message.objective,
    )


def _profile_from_proto(message: master_pb2.ProfileInfo | master_pb2.ModelInfo) -> ProfileInfo:
    """One profile of several, or a model that has only one."""
    return ProfileInfo(
        state=message.state,
        reason=message.reason,
        inputs=tuple(map(_tensor_from_proto, message.inputs)),
        outputs=tuple(map(_tensor_from_proto, message.outputs)),
        deployment_id=message.deployment_id,
        segments=tuple(map(_segment_from_proto, message.segments)),
        predicted_seconds=message.predicted_seconds,
        single_device_seconds=message.single_device_seconds,
        devices=tuple(message.devices),
        pushed_bytes=message.pushed_bytes,
        resident_bytes=dict(message.resident_bytes),
        remark=message.remark,
        requests_per_second=message.requests_per_second,
        single_device_fits=not message.single_device_lacks_memory,
        boundary=message.boundary or "float32",
    )


def status_from_proto(message: master_pb2.MasterStatusReply) -> MasterStatus:
    """The whole system at a glance."""
    return MasterStatus(
        version=message.version,
        uptime_seconds=message.uptime_seconds,
        devices=tuple(map(_device_from_proto, message.devices)),
        models=tuple(map(model_from_proto, message.models)),
        requests_in_flight=message.requests_in_flight,
        requests_done=message.requests_done,
        requests_failed=message.requests_failed,
        scattered_bytes=message.scattered_bytes,
        gathered_bytes=message.gathered_bytes,
        requests_refused=message.requests_refused,
        batches=message.batches,
        batched_requests=message.batched_requests,
        answers_checked=message.answers_checked,
        answers_wrong=message.answers_wrong,
        holdings=_holdings_from_proto(message.holdings),
        certificate_expires_at=message.certificate_expires_at or None,
    )


def _holdings_from_proto(message: holdings_pb2.Holdings) -> Holdings:
    return Holdings(
        message.requests,
        message.waiting,
        message.request_bytes,
        message.tensors,
        message.uploads,
        message.threads,
        message.tasks,
    )


def progress_from_proto(message: master_pb2.LoadProgress) -> LoadProgress:
    """How far the loading of a model is."""
    return LoadProgress(
        message.stage, message.done, message.total, message.unit, message.profile, max(1, message.profiles)
    )


def _tensor_from_proto(message: master_pb2.TensorInfo) -> TensorInfo:
    return TensorInfo(message.name, tuple(message.shape), message.dtype)


def _segment_from_proto(message: master_pb2.SegmentInfo) -> SegmentInfo:
    return SegmentInfo(
        tuple(message.layers),
        message.scheme,
        tuple(message.shares),
        message.compute_seconds,
        message.exchange_seconds,
        message.exchange_bytes,
    )


def _device_from_proto(message: master_pb2.DeviceInfo) -> DeviceInfo:
    return DeviceInfo(
        message.name,
        message.address,
        message.state,
        message.reason,
        message.worker_id,
        message.version,
        message.certificate_expires_at or None,
    )


def spans_from_proto(message: trace_pb2.RequestTrace) -> tuple[TraceSpan, ...]:
    """What one device did."""
    return tuple(
        TraceSpan(span.activity, span.what, span.start, span.stop, span.payload_bytes) for span in message.spans
    )
