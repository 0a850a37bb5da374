from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TraceSpan(_message.Message):
    __slots__ = ("activity", "what", "start", "stop", "payload_bytes")
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    activity: str
    what: str
    start: float
    stop: float
    payload_bytes: int
    def __init__(self, activity: _Optional[str] = ..., what: _Optional[str] = ..., start: _Optional[float] = ..., stop: _Optional[float] = ..., payload_bytes: _Optional[int] = ...) -> None: ...

class RequestTrace(_message.Message):
    __slots__ = ("request_id", "spans")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    spans: _containers.RepeatedCompositeFieldContainer[TraceSpan]
    def __init__(self, request_id: _Optional[int] = ..., spans: _Optional[_Iterable[_Union[TraceSpan, _Mapping]]] = ...) -> None: ...
