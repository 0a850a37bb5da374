from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DoorRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DoorReply(_message.Message):
    __slots__ = ("port", "unix_socket")
    PORT_FIELD_NUMBER: _ClassVar[int]
    UNIX_SOCKET_FIELD_NUMBER: _ClassVar[int]
    port: int
    unix_socket: str
    def __init__(self, port: _Optional[int] = ..., unix_socket: _Optional[str] = ...) -> None: ...

class BeatRequest(_message.Message):
    __slots__ = ("interval_milliseconds", "with_reports")
    INTERVAL_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    WITH_REPORTS_FIELD_NUMBER: _ClassVar[int]
    interval_milliseconds: int
    with_reports: bool
    def __init__(self, interval_milliseconds: _Optional[int] = ..., with_reports: _Optional[bool] = ...) -> None: ...

class BeatReply(_message.Message):
    __slots__ = ("unreachable", "samples")
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    samples: _containers.RepeatedCompositeFieldContainer[RequestSample]
    def __init__(self, unreachable: _Optional[_Iterable[str]] = ..., samples: _Optional[_Iterable[_Union[RequestSample, _Mapping]]] = ...) -> None: ...

class RequestSample(_message.Message):
    __slots__ = ("deployment_id", "request_id", "compute_seconds", "sent", "received")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    request_id: int
    compute_seconds: float
    sent: _containers.RepeatedCompositeFieldContainer[MessageSample]
    received: _containers.RepeatedCompositeFieldContainer[MessageSample]
    def __init__(self, deployment_id: _Optional[str] = ..., request_id: _Optional[int] = ..., compute_seconds: _Optional[float] = ..., sent: _Optional[_Iterable[_Union[MessageSample, _Mapping]]] = ..., received: _Optional[_Iterable[_Union[MessageSample, _Mapping]]] = ...) -> None: ...

class MessageSample(_message.Message):
    __slots__ = ("exchange", "other", "nbytes", "at")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    other: int
    nbytes: int
    at: float
    def __init__(self, exchange: _Optional[int] = ..., other: _Optional[int] = ..., nbytes: _Optional[int] = ..., at: _Optional[float] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("header", "payload")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    header: FrameHeader
    payload: bytes
    def __init__(self, header: _Optional[_Union[FrameHeader, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class FrameHeader(_message.Message):
    __slots__ = ("request_id", "timeout_milliseconds", "deployment_id", "payload_bytes", "data", "cancel", "failure", "padding")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    timeout_milliseconds: int
    deployment_id: str
    payload_bytes: int
    data: Data
    cancel: Cancel
    failure: Failure
    padding: bytes
    def __init__(self, request_id: _Optional[int] = ..., timeout_milliseconds: _Optional[int] = ..., deployment_id: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., data: _Optional[_Union[Data, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Data(_message.Message):
    __slots__ = ("exchange", "source")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    source: int
    def __init__(self, exchange: _Optional[int] = ..., source: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "remedy")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    remedy: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...
