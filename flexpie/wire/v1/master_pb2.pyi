from flexpie.wire.v1 import holdings_pb2 as _holdings_pb2
from flexpie.wire.v1 import trace_pb2 as _trace_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TraceModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class TraceModelReply(_message.Message):
    __slots__ = ("devices", "device", "trace")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedScalarFieldContainer[str]
    device: str
    trace: _trace_pb2.RequestTrace
    def __init__(self, devices: _Optional[_Iterable[str]] = ..., device: _Optional[str] = ..., trace: _Optional[_Union[_trace_pb2.RequestTrace, _Mapping]] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("dims",)
    DIMS_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dims: _Optional[_Iterable[int]] = ...) -> None: ...

class Batching(_message.Message):
    __slots__ = ("max", "wait_seconds")
    MAX_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max: int
    wait_seconds: float
    def __init__(self, max: _Optional[int] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("input_shapes",)
    class InputShapesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Shape
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Shape, _Mapping]] = ...) -> None: ...
    INPUT_SHAPES_FIELD_NUMBER: _ClassVar[int]
    input_shapes: _containers.MessageMap[str, Shape]
    def __init__(self, input_shapes: _Optional[_Mapping[str, Shape]] = ...) -> None: ...

class LoadSpec(_message.Message):
    __slots__ = ("name", "input_shapes", "scheme", "total_bytes", "profiles", "objective", "plan", "in_flight", "batching", "boundary")
    class InputShapesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Shape
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Shape, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_SHAPES_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    input_shapes: _containers.MessageMap[str, Shape]
    scheme: str
    total_bytes: int
    profiles: _containers.RepeatedCompositeFieldContainer[Profile]
    objective: str
    plan: str
    in_flight: int
    batching: Batching
    boundary: str
    def __init__(self, name: _Optional[str] = ..., input_shapes: _Optional[_Mapping[str, Shape]] = ..., scheme: _Optional[str] = ..., total_bytes: _Optional[int] = ..., profiles: _Optional[_Iterable[_Union[Profile, _Mapping]]] = ..., objective: _Optional[str] = ..., plan: _Optional[str] = ..., in_flight: _Optional[int] = ..., batching: _Optional[_Union[Batching, _Mapping]] = ..., boundary: _Optional[str] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("file_name", "data")
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    file_name: str
    data: bytes
    def __init__(self, file_name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class LoadRequest(_message.Message):
    __slots__ = ("spec", "chunk")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    spec: LoadSpec
    chunk: FileChunk
    def __init__(self, spec: _Optional[_Union[LoadSpec, _Mapping]] = ..., chunk: _Optional[_Union[FileChunk, _Mapping]] = ...) -> None: ...

class LoadProgress(_message.Message):
    __slots__ = ("stage", "done", "total", "unit", "model", "finished", "profile", "profiles")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    stage: str
    done: int
    total: int
    unit: str
    model: ModelInfo
    finished: bool
    profile: int
    profiles: int
    def __init__(self, stage: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., finished: _Optional[bool] = ..., profile: _Optional[int] = ..., profiles: _Optional[int] = ...) -> None: ...

class UnloadRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UnloadReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelsReply(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("name", "shape", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ...) -> None: ...

class SegmentInfo(_message.Message):
    __slots__ = ("layers", "scheme", "shares", "compute_seconds", "exchange_seconds", "exchange_bytes")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    scheme: str
    shares: _containers.RepeatedScalarFieldContainer[float]
    compute_seconds: float
    exchange_seconds: float
    exchange_bytes: int
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., scheme: _Optional[str] = ..., shares: _Optional[_Iterable[float]] = ..., compute_seconds: _Optional[float] = ..., exchange_seconds: _Optional[float] = ..., exchange_bytes: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "state", "reason", "inputs", "outputs", "deployment_id", "segments", "predicted_seconds", "single_device_seconds", "devices", "pushed_bytes", "resident_bytes", "profiles", "requests_per_second", "single_device_lacks_memory", "objective", "remark", "boundary")
    class ResidentBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    PUSHED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_LACKS_MEMORY_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    REMARK_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: str
    reason: str
    inputs: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    deployment_id: str
    segments: _containers.RepeatedCompositeFieldContainer[SegmentInfo]
    predicted_seconds: float
    single_device_seconds: float
    devices: _containers.RepeatedScalarFieldContainer[str]
    pushed_bytes: int
    resident_bytes: _containers.ScalarMap[str, int]
    profiles: _containers.RepeatedCompositeFieldContainer[ProfileInfo]
    requests_per_second: float
    single_device_lacks_memory: bool
    objective: str
    remark: str
    boundary: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., deployment_id: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[SegmentInfo, _Mapping]]] = ..., predicted_seconds: _Optional[float] = ..., single_device_seconds: _Optional[float] = ..., devices: _Optional[_Iterable[str]] = ..., pushed_bytes: _Optional[int] = ..., resident_bytes: _Optional[_Mapping[str, int]] = ..., profiles: _Optional[_Iterable[_Union[ProfileInfo, _Mapping]]] = ..., requests_per_second: _Optional[float] = ..., single_device_lacks_memory: _Optional[bool] = ..., objective: _Optional[str] = ..., remark: _Optional[str] = ..., boundary: _Optional[str] = ...) -> None: ...

class ProfileInfo(_message.Message):
    __slots__ = ("state", "reason", "inputs", "outputs", "deployment_id", "segments", "predicted_seconds", "single_device_seconds", "devices", "pushed_bytes", "resident_bytes", "requests_per_second", "single_device_lacks_memory", "remark", "boundary")
    class ResidentBytesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    PUSHED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_LACKS_MEMORY_FIELD_NUMBER: _ClassVar[int]
    REMARK_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    state: str
    reason: str
    inputs: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorInfo]
    deployment_id: str
    segments: _containers.RepeatedCompositeFieldContainer[SegmentInfo]
    predicted_seconds: float
    single_device_seconds: float
    devices: _containers.RepeatedScalarFieldContainer[str]
    pushed_bytes: int
    resident_bytes: _containers.ScalarMap[str, int]
    requests_per_second: float
    single_device_lacks_memory: bool
    remark: str
    boundary: str
    def __init__(self, state: _Optional[str] = ..., reason: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorInfo, _Mapping]]] = ..., deployment_id: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[SegmentInfo, _Mapping]]] = ..., predicted_seconds: _Optional[float] = ..., single_device_seconds: _Optional[float] = ..., devices: _Optional[_Iterable[str]] = ..., pushed_bytes: _Optional[int] = ..., resident_bytes: _Optional[_Mapping[str, int]] = ..., requests_per_second: _Optional[float] = ..., single_device_lacks_memory: _Optional[bool] = ..., remark: _Optional[str] = ..., boundary: _Optional[str] = ...) -> None: ...

class DeviceInfo(_message.Message):
    __slots__ = ("name", "address", "state", "reason", "worker_id", "version", "certificate_expires_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    state: str
    reason: str
    worker_id: str
    version: str
    certificate_expires_at: int
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., worker_id: _Optional[str] = ..., version: _Optional[str] = ..., certificate_expires_at: _Optional[int] = ...) -> None: ...

class MasterStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MasterStatusReply(_message.Message):
    __slots__ = ("version", "uptime_seconds", "devices", "models", "requests_in_flight", "requests_done", "requests_failed", "scattered_bytes", "gathered_bytes", "holdings", "requests_refused", "certificate_expires_at", "answers_checked", "answers_wrong", "batches", "batched_requests")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_DONE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    SCATTERED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GATHERED_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_REFUSED_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_CHECKED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_WRONG_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BATCHED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    uptime_seconds: float
    devices: _containers.RepeatedCompositeFieldContainer[DeviceInfo]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    requests_in_flight: int
    requests_done: int
    requests_failed: int
    scattered_bytes: int
    gathered_bytes: int
    holdings: _holdings_pb2.Holdings
    requests_refused: int
    certificate_expires_at: int
    answers_checked: int
    answers_wrong: int
    batches: int
    batched_requests: int
    def __init__(self, version: _Optional[str] = ..., uptime_seconds: _Optional[float] = ..., devices: _Optional[_Iterable[_Union[DeviceInfo, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., requests_in_flight: _Optional[int] = ..., requests_done: _Optional[int] = ..., requests_failed: _Optional[int] = ..., scattered_bytes: _Optional[int] = ..., gathered_bytes: _Optional[int] = ..., holdings: _Optional[_Union[_holdings_pb2.Holdings, _Mapping]] = ..., requests_refused: _Optional[int] = ..., certificate_expires_at: _Optional[int] = ..., answers_checked: _Optional[int] = ..., answers_wrong: _Optional[int] = ..., batches: _Optional[int] = ..., batched_requests: _Optional[int] = ...) -> None: ...
