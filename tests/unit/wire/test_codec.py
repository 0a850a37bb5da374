"""Programs survive the wire; messages that stand for none are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.program import (
    MASTER,
    Assemble,
    BlobRef,
    DeviceProgram,
    Feed,
    Part,
    Receive,
    Release,
    Run,
    Send,
    Step,
    SubgraphRef,
    Value,
)
from flexpie.core.region import Interval, Region
from flexpie.core.tensor import ElementType, TensorSpec
from flexpie.wire.codec import (
    blob_from_proto,
    blob_to_proto,
    program_from_proto,
    program_to_proto,
    region_from_proto,
    step_from_proto,
    step_to_proto,
    tensor_from_proto,
    tensor_to_proto,
)
from flexpie.wire.v1 import master_pb2, program_pb2

indices = st.integers(0, 2**32 - 1)
tuples_of_indices = st.lists(indices, max_size=4).map(tuple)
intervals = st.tuples(st.integers(0, 2**62), st.integers(0, 2**31)).map(lambda pair: Interval(pair[0], sum(pair)))
regions = st.lists(intervals, max_size=5).map(Region)
devices = st.integers(MASTER, 2**31 - 1)
parts = st.lists(st.builds(Part, indices, regions), max_size=3).map(tuple)
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Send, indices, devices, parts),
    st.builds(Receive, indices, devices, tuples_of_indices),
    st.builds(Assemble, indices, parts),
    st.builds(Run, indices, tuples_of_indices, tuples_of_indices),
    st.builds(Release, tuples_of_indices),
)
blobs = st.builds(BlobRef, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**64 - 1))
subgraphs = st.builds(SubgraphRef, st.text(max_size=9), blobs, st.lists(blobs, max_size=3).map(tuple))
values = st.one_of(
    st.builds(Value, st.text(max_size=9), regions, st.sampled_from(ElementType)),
    st.builds(Value, st.text(max_size=9), st.just(Region()), st.sampled_from(ElementType), st.just(True)),
)
programs = st.builds(
    DeviceProgram,
    device=st.integers(0, 2**31 - 1),
    values=st.lists(values, max_size=4).map(tuple),
    steps=st.lists(steps, max_size=6).map(tuple),
    subgraphs=st.lists(subgraphs, max_size=2).map(tuple),
)


def refused_or_read(read: Callable[[], object]) -> bool:
    """Whether a message is read, or refused in the one way that is meant for it."""
    try:
        read()
    except FlexPieError as error:
        return error.code is ErrorCode.CORRUPT_PACKAGE
    return True


@given(programs)
def test_programs_round_trip(program: DeviceProgram) -> None:
    encoded = program_to_proto(program).SerializeToString()
    assert program_from_proto(program_pb2.DeviceProgram.FromString(encoded)) == program


@given(
    st.builds(TensorSpec, st.text(max_size=9), st.lists(st.integers(0, 2**62)).map(tuple), st.sampled_from(ElementType))
)
def test_tensors_round_trip(spec: TensorSpec) -> None:
    assert tensor_from_proto(master_pb2.TensorInfo.FromString(tensor_to_proto(spec).SerializeToString())) == spec


@given(blobs)
def test_blobs_round_trip(blob: BlobRef) -> None:
    assert blob_from_proto(blob_to_proto(blob)) == blob


def test_the_masters_program_does_not_travel() -> None:
    with pytest.raises(ValueError, match="does not travel"):
        program_to_proto(DeviceProgram(MASTER, (), ()))
    with pytest.raises(ValueError, match="does not travel"):
        step_to_proto(Feed(0))


def corrupt_program(**fields: object) -> program_pb2.DeviceProgram:
    return program_pb2.DeviceProgram(**fields)  # type: ignore[arg-type]


LINE = program_pb2.Region(intervals=[program_pb2.Interval(start=0, stop=3)])


@pytest.mark.parametrize(
    "message",
    [
        corrupt_program(device=-1),
        corrupt_program(values=[program_pb2.Value(tensor="x", dtype="float31")]),
        corrupt_program(values=[program_pb2.Value(tensor="x")]),
        corrupt_program(values=[program_pb2.Value(dtype="bool", opaque=True, region=LINE)]),
        corrupt_program(steps=[program_pb2.Step()]),
        corrupt_program(steps=[program_pb2.Step(send=program_pb2.Send(destination=-2))]),
        corrupt_program(steps=[program_pb2.Step(receive=program_pb2.Receive(source=-2))]),
        corrupt_program(subgraphs=[program_pb2.SubgraphRef(name="no model")]),
        corrupt_program(subgraphs=[program_pb2.SubgraphRef(model=program_pb2.BlobRef(sha256="../" + "0" * 61))]),
    ],
)
def test_malformed_programs_are_refused(message: program_pb2.DeviceProgram) -> None:
    with pytest.raises(FlexPieError) as raised:
        program_from_proto(message)
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (-5, -1)])
def test_malformed_regions_are_refused(start: int, stop: int) -> None:
    with pytest.raises(FlexPieError, match="bounds"):
        region_from_proto(program_pb2.Region(intervals=[program_pb2.Interval(start=start, stop=stop)]))


@pytest.mark.parametrize("name", ["", "A" * 64, "0" * 63, "0" * 64 + "\n", "/" * 64])
def test_only_hashes_become_file_names(name: str) -> None:
    with pytest.raises(FlexPieError) as raised:
        blob_from_proto(program_pb2.BlobRef(sha256=name))
    assert raised.value.code is ErrorCode.CORRUPT_PACKAGE


def test_negative_lengths_are_refused() -> None:
    with pytest.raises(FlexPieError):
        tensor_from_proto(master_pb2.TensorInfo(shape=[-1], dtype="float32"))


@given(st.binary(max_size=200))
def test_random_messages_are_refused_or_read(message: bytes) -> None:
    step = program_pb2.Step()
    try:
        step.ParseFromString(message)
    except Exception:
        return  # protobuf refused it
    assert refused_or_read(lambda: step_from_proto(step))
