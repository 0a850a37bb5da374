from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Interval(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: int
    stop: int
    def __init__(self, start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("intervals",)
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    intervals: _containers.RepeatedCompositeFieldContainer[Interval]
    def __init__(self, intervals: _Optional[_Iterable[_Union[Interval, _Mapping]]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("tensor", "region", "dtype", "opaque")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    OPAQUE_FIELD_NUMBER: _ClassVar[int]
    tensor: str
    region: Region
    dtype: str
    opaque: bool
    def __init__(self, tensor: _Optional[str] = ..., region: _Optional[_Union[Region, _Mapping]] = ..., dtype: _Optional[str] = ..., opaque: _Optional[bool] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("value", "region")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    value: int
    region: Region
    def __init__(self, value: _Optional[int] = ..., region: _Optional[_Union[Region, _Mapping]] = ...) -> None: ...

class Send(_message.Message):
    __slots__ = ("exchange", "destination", "parts")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    destination: int
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, exchange: _Optional[int] = ..., destination: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Receive(_message.Message):
    __slots__ = ("exchange", "source", "values")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    exchange: int
    source: int
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, exchange: _Optional[int] = ..., source: _Optional[int] = ..., values: _Optional[_Iterable[int]] = ...) -> None: ...

class Assemble(_message.Message):
    __slots__ = ("value", "parts")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    value: int
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, value: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("subgraph", "inputs", "outputs")
    SUBGRAPH_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    subgraph: int
    inputs: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, subgraph: _Optional[int] = ..., inputs: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("send", "receive", "assemble", "run", "release")
    SEND_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    send: Send
    receive: Receive
    assemble: Assemble
    run: Run
    release: Release
    def __init__(self, send: _Optional[_Union[Send, _Mapping]] = ..., receive: _Optional[_Union[Receive, _Mapping]] = ..., assemble: _Optional[_Union[Assemble, _Mapping]] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class BlobRef(_message.Message):
    __slots__ = ("sha256", "nbytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    nbytes: int
    def __init__(self, sha256: _Optional[str] = ..., nbytes: _Optional[int] = ...) -> None: ...

class SubgraphRef(_message.Message):
    __slots__ = ("name", "model", "weights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: BlobRef
    weights: _containers.RepeatedCompositeFieldContainer[BlobRef]
    def __init__(self, name: _Optional[str] = ..., model: _Optional[_Union[BlobRef, _Mapping]] = ..., weights: _Optional[_Iterable[_Union[BlobRef, _Mapping]]] = ...) -> None: ...

class DeviceProgram(_message.Message):
    __slots__ = ("device", "values", "steps", "subgraphs")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SUBGRAPHS_FIELD_NUMBER: _ClassVar[int]
    device: int
    values: _containers.RepeatedCompositeFieldContainer[Value]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    subgraphs: _containers.RepeatedCompositeFieldContainer[SubgraphRef]
    def __init__(self, device: _Optional[int] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., subgraphs: _Optional[_Iterable[_Union[SubgraphRef, _Mapping]]] = ...) -> None: ...
