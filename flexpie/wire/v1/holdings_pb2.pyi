from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Holdings(_message.Message):
    __slots__ = ("requests", "waiting", "request_bytes", "tensors", "uploads", "threads", "tasks")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    waiting: int
    request_bytes: int
    tensors: int
    uploads: int
    threads: int
    tasks: int
    def __init__(self, requests: _Optional[int] = ..., waiting: _Optional[int] = ..., request_bytes: _Optional[int] = ..., tensors: _Optional[int] = ..., uploads: _Optional[int] = ..., threads: _Optional[int] = ..., tasks: _Optional[int] = ...) -> None: ...
