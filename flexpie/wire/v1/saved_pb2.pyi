from flexpie.wire.v1 import master_pb2 as _master_pb2
from flexpie.wire.v1 import program_pb2 as _program_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SavedDeployment(_message.Message):
    __slots__ = ("deployment_id", "devices", "planned_over", "programs", "master", "outputs", "shown_inputs", "shown_outputs", "plan", "plan_file", "turns")
    class TurnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    PLANNED_OVER_FIELD_NUMBER: _ClassVar[int]
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    MASTER_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SHOWN_INPUTS_FIELD_NUMBER: _ClassVar[int]
    SHOWN_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    PLAN_FILE_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    devices: _containers.RepeatedScalarFieldContainer[str]
    planned_over: _containers.RepeatedScalarFieldContainer[str]
    programs: _containers.RepeatedCompositeFieldContainer[_program_pb2.DeviceProgram]
    master: MasterProgram
    outputs: _containers.RepeatedCompositeFieldContainer[SavedTensor]
    shown_inputs: _containers.RepeatedCompositeFieldContainer[SavedTensor]
    shown_outputs: _containers.RepeatedCompositeFieldContainer[SavedTensor]
    plan: _master_pb2.ProfileInfo
    plan_file: str
    turns: _containers.ScalarMap[int, float]
    def __init__(self, deployment_id: _Optional[str] = ..., devices: _Optional[_Iterable[str]] = ..., planned_over: _Optional[_Iterable[str]] = ..., programs: _Optional[_Iterable[_Union[_program_pb2.DeviceProgram, _Mapping]]] = ..., master: _Optional[_Union[MasterProgram, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[SavedTensor, _Mapping]]] = ..., shown_inputs: _Optional[_Iterable[_Union[SavedTensor, _Mapping]]] = ..., shown_outputs: _Optional[_Iterable[_Union[SavedTensor, _Mapping]]] = ..., plan: _Optional[_Union[_master_pb2.ProfileInfo, _Mapping]] = ..., plan_file: _Optional[str] = ..., turns: _Optional[_Mapping[int, float]] = ...) -> None: ...

class MasterProgram(_message.Message):
    __slots__ = ("values", "steps", "feed_positions", "feed_values", "outputs")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    FEED_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    FEED_VALUES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[_program_pb2.Value]
    steps: _containers.RepeatedCompositeFieldContainer[_program_pb2.Step]
    feed_positions: _containers.RepeatedScalarFieldContainer[int]
    feed_values: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[_Union[_program_pb2.Value, _Mapping]]] = ..., steps: _Optional[_Iterable[_Union[_program_pb2.Step, _Mapping]]] = ..., feed_positions: _Optional[_Iterable[int]] = ..., feed_values: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class SavedTensor(_message.Message):
    __slots__ = ("name", "shape", "dtype", "opaque")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    OPAQUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    opaque: bool
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., opaque: _Optional[bool] = ...) -> None: ...
