from flexpie.wire.v1 import holdings_pb2 as _holdings_pb2
from flexpie.wire.v1 import program_pb2 as _program_pb2
from flexpie.wire.v1 import trace_pb2 as _trace_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TraceRequest(_message.Message):
    __slots__ = ("deployment_id",)
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    def __init__(self, deployment_id: _Optional[str] = ...) -> None: ...

class HandshakeRequest(_message.Message):
    __slots__ = ("version", "protocol", "master_id", "deployment_ids", "dead_after_milliseconds")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MASTER_ID_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_IDS_FIELD_NUMBER: _ClassVar[int]
    DEAD_AFTER_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    version: str
    protocol: int
    master_id: str
    deployment_ids: _containers.RepeatedScalarFieldContainer[str]
    dead_after_milliseconds: int
    def __init__(self, version: _Optional[str] = ..., protocol: _Optional[int] = ..., master_id: _Optional[str] = ..., deployment_ids: _Optional[_Iterable[str]] = ..., dead_after_milliseconds: _Optional[int] = ...) -> None: ...

class HandshakeReply(_message.Message):
    __slots__ = ("version", "protocol", "worker_id", "onnxruntime_version", "memory_bytes", "threads", "max_message_bytes", "certificate_expires_at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ONNXRUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    version: str
    protocol: int
    worker_id: str
    onnxruntime_version: str
    memory_bytes: int
    threads: int
    max_message_bytes: int
    certificate_expires_at: int
    def __init__(self, version: _Optional[str] = ..., protocol: _Optional[int] = ..., worker_id: _Optional[str] = ..., onnxruntime_version: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., threads: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., certificate_expires_at: _Optional[int] = ...) -> None: ...

class OfferBlobsRequest(_message.Message):
    __slots__ = ("blobs",)
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[_program_pb2.BlobRef]
    def __init__(self, blobs: _Optional[_Iterable[_Union[_program_pb2.BlobRef, _Mapping]]] = ...) -> None: ...

class OfferBlobsReply(_message.Message):
    __slots__ = ("missing_sha256",)
    MISSING_SHA256_FIELD_NUMBER: _ClassVar[int]
    missing_sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, missing_sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("blob", "data")
    BLOB_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    blob: _program_pb2.BlobRef
    data: bytes
    def __init__(self, blob: _Optional[_Union[_program_pb2.BlobRef, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PushBlobsReply(_message.Message):
    __slots__ = ("blobs", "nbytes")
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    blobs: int
    nbytes: int
    def __init__(self, blobs: _Optional[int] = ..., nbytes: _Optional[int] = ...) -> None: ...

class DeployRequest(_message.Message):
    __slots__ = ("deployment_id", "program", "peers", "model", "device_names", "master_id", "in_background")
    class PeersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAMES_FIELD_NUMBER: _ClassVar[int]
    MASTER_ID_FIELD_NUMBER: _ClassVar[int]
    IN_BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    program: _program_pb2.DeviceProgram
    peers: _containers.ScalarMap[int, str]
    model: str
    device_names: _containers.RepeatedScalarFieldContainer[str]
    master_id: str
    in_background: bool
    def __init__(self, deployment_id: _Optional[str] = ..., program: _Optional[_Union[_program_pb2.DeviceProgram, _Mapping]] = ..., peers: _Optional[_Mapping[int, str]] = ..., model: _Optional[str] = ..., device_names: _Optional[_Iterable[str]] = ..., master_id: _Optional[str] = ..., in_background: _Optional[bool] = ...) -> None: ...

class DeployReply(_message.Message):
    __slots__ = ("build_seconds", "resident_bytes", "max_requests")
    BUILD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    build_seconds: float
    resident_bytes: int
    max_requests: int
    def __init__(self, build_seconds: _Optional[float] = ..., resident_bytes: _Optional[int] = ..., max_requests: _Optional[int] = ...) -> None: ...

class UndeployRequest(_message.Message):
    __slots__ = ("deployment_id",)
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    def __init__(self, deployment_id: _Optional[str] = ...) -> None: ...

class UndeployReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WorkerStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WorkerStatusReply(_message.Message):
    __slots__ = ("worker_id", "version", "deployments", "store_bytes", "store_limit_bytes", "uptime_seconds", "holdings", "cpu")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    version: str
    deployments: _containers.RepeatedCompositeFieldContainer[DeploymentStatus]
    store_bytes: int
    store_limit_bytes: int
    uptime_seconds: float
    holdings: _holdings_pb2.Holdings
    cpu: CpuSeconds
    def __init__(self, worker_id: _Optional[str] = ..., version: _Optional[str] = ..., deployments: _Optional[_Iterable[_Union[DeploymentStatus, _Mapping]]] = ..., store_bytes: _Optional[int] = ..., store_limit_bytes: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., holdings: _Optional[_Union[_holdings_pb2.Holdings, _Mapping]] = ..., cpu: _Optional[_Union[CpuSeconds, _Mapping]] = ...) -> None: ...

class CpuSeconds(_message.Message):
    __slots__ = ("process", "engine", "steps", "event_loop")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    EVENT_LOOP_FIELD_NUMBER: _ClassVar[int]
    process: float
    engine: float
    steps: float
    event_loop: float
    def __init__(self, process: _Optional[float] = ..., engine: _Optional[float] = ..., steps: _Optional[float] = ..., event_loop: _Optional[float] = ...) -> None: ...

class CheckPeerRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class CheckPeerReply(_message.Message):
    __slots__ = ("reachable",)
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    reachable: bool
    def __init__(self, reachable: _Optional[bool] = ...) -> None: ...

class DeploymentStatus(_message.Message):
    __slots__ = ("deployment_id", "model", "ready", "requests_in_flight", "requests_done", "requests_failed", "frames_sent", "bytes_sent", "frames_received", "bytes_received", "compute_seconds")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_DONE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model: str
    ready: bool
    requests_in_flight: int
    requests_done: int
    requests_failed: int
    frames_sent: int
    bytes_sent: int
    frames_received: int
    bytes_received: int
    compute_seconds: float
    def __init__(self, deployment_id: _Optional[str] = ..., model: _Optional[str] = ..., ready: _Optional[bool] = ..., requests_in_flight: _Optional[int] = ..., requests_done: _Optional[int] = ..., requests_failed: _Optional[int] = ..., frames_sent: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., frames_received: _Optional[int] = ..., bytes_received: _Optional[int] = ..., compute_seconds: _Optional[float] = ...) -> None: ...
