"""What is fed with bad input inside of one process: each target makes a case, and gives it to the code that reads it.

A case is bytes, so that a failure can show it. Whatever a target raises is judged by `tests.fuzz.running`.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from flexpie.core.cluster import Cluster, Device, Link
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.core.graph import LayerGraph
from flexpie.core.program import Value
from flexpie.core.region import Region
from flexpie.core.tensor import ElementType
from flexpie.wire.codec import program_from_proto, program_to_proto
from flexpie.wire.framing import Cancel, Content, Data, Failure, decode_frame, encode_frame
from flexpie.wire.grpc_fields import request_fields, response_fields
from flexpie.wire.onnx_files import external_locations
from flexpie.wire.opaque import datum_to_bytes
from flexpie.wire.tensors import payload_to_arrays
from flexpie.wire.v1 import open_inference_pb2, program_pb2
from tests import worker_programs
from tests.fuzz.mutating import mutated, mutated_json, mutated_message, mutated_text, random_message
from tests.unit.wire.streaming import End

Make = Callable[[random.Random], bytes]
Feed = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """Something that reads input."""

    make: Make
    """Draws a case."""
    feed: Feed
    """Reads it."""
    cases: int
    """In a short run; a long one has `LONG_FACTOR` times as many."""


LONG_FACTOR = 25


# ------------------------------------------------------------------------------------------------- frames


@cache
def _frames() -> tuple[bytes, ...]:
    contents: tuple[Content, ...] = (
        *(Data(0, 0), Data(7, -1), Cancel("gone")),
        Failure(ErrorCode.OVERLOADED, "full", "wait"),
    )
    return tuple(
        encode_frame("0a1b-1", number, 5000, content, parts)
        for number, content in enumerate(contents)
        for parts in ((), (bytes(64),), (b"abc", bytes(5)))
    )


def _make_frame(draw: random.Random) -> bytes:
    return (
        draw.randbytes(draw.randrange(64)) if draw.random() < 0.1 else mutated(draw, draw.choice(_frames()), _frames())
    )


def _feed_frame(case: bytes) -> None:
    frame = decode_frame(case)
    assert len(frame.payload) <= len(case)


# ------------------------------------------------------------------------------------------------ streams


@cache
def _conversations() -> tuple[bytes, ...]:
    """What clients say to a worker's door."""
    found = []
    for method, sizes in (("/flexpie.wire.v1.PeerService/Exchange", (0, 9, 3000)), ("/no/Such", ())):
        client = End(is_client=True)
        client.stream.send_headers(request_fields("peer", method, (("key", "value"), ("a-bin", b"\0"))))
        for size in sizes:
            client.stream.put(bytes(size))
        found.append(client.wires.take())
    return tuple(found)


def _make_stream(draw: random.Random) -> bytes:
    return mutated(draw, draw.choice(_conversations()), _conversations())


def _feed_stream(case: bytes) -> None:
    server = End(is_client=False, answer=response_fields(()))
    server.receive(case, range(1, len(case), 7))
    for trailers, reason in server.user.ends:
        if trailers is None:
            raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, reason)


# ------------------------------------------------------------------------------------------------- values


@cache
def _values() -> tuple[bytes, ...]:
    return tuple(map(datum_to_bytes, (
        np.arange(6, dtype=np.float32).reshape(2, 3), [np.zeros(3), None], {"a": 1.5, "b": 2.0}, {1: "x"}, None,
        np.array(["text", "ä"], dtype=object), [[[np.ones((2, 0), np.int8)]]],
    )))  # fmt: skip


def _make_value(draw: random.Random) -> bytes:
    return mutated(draw, draw.choice(_values()), _values())


def _feed_value(case: bytes) -> None:
    opaque = Value("v", Region(()), ElementType.FLOAT32, True)
    texts = Value("t", Region.of((0, 2)), ElementType.STRING)
    numbers = Value("n", Region.of((0, 3)), ElementType.FLOAT32)
    for values in ([opaque], [numbers, opaque], [texts]):
        try:
            payload_to_arrays(memoryview(case), values)
        except FlexPieError as error:
            refused = error
        else:
            return
    raise refused


# ----------------------------------------------------------------------------------------------- programs


@cache
def _programs() -> tuple[program_pb2.DeviceProgram, ...]:
    return tuple(map(program_to_proto, worker_programs.fake_package().programs))


def _make_program(draw: random.Random) -> bytes:
    chosen = draw.choice(_programs())
    match draw.randrange(8):
        case 0:
            return random_message(draw, program_pb2.DeviceProgram.DESCRIPTOR).SerializeToString()
        case 1:
            return mutated(draw, chosen.SerializeToString())
        case _:
            for _ in range(draw.choice((1, 1, 2, 4))):
                chosen = mutated_message(draw, chosen)  # type: ignore[assignment]
            return chosen.SerializeToString()


def _feed_program(case: bytes) -> None:
    """As a worker takes a program, then runs it with whatever its peers would send."""
    from flexpie.worker.inprocess import InProcessCluster

    program = program_from_proto(_parsed(program_pb2.DeviceProgram, case))
    package = worker_programs.fake_package()
    programs = [program, *(other for other in package.programs if other.device != program.device)]
    cluster = InProcessCluster(programs, package.master, package.blobs, worker_programs.fake_engine())
    try:
        cluster.infer({"x": worker_programs.X})
    except FlexPieError as error:
        if error.message != "The master's program did not end.":  # nobody sent what it waits for
            raise


# ----------------------------------------------------------------------------------------------- requests


@cache
def _request() -> open_inference_pb2.ModelInferRequest:
    request = open_inference_pb2.ModelInferRequest(model_name="conv", raw_input_contents=[bytes(96), bytes(3)])
    request.inputs.add(name="image", datatype="FP32", shape=(2, 3, 4))
    request.inputs.add(name="flags", datatype="BOOL", shape=(3,))
    return request


def _make_request(draw: random.Random) -> bytes:
    kind = open_inference_pb2.ModelInferRequest.DESCRIPTOR
    message = random_message(draw, kind) if draw.random() < 0.4 else mutated_message(draw, _request())
    return mutated(draw, message.SerializeToString()) if draw.random() < 0.2 else message.SerializeToString()


def _feed_request(case: bytes) -> None:
    from flexpie.master.open_inference import inputs_from_proto

    inputs_from_proto(_parsed(open_inference_pb2.ModelInferRequest, case))


# ---------------------------------------------------------------------------------------------- text files


CLUSTER = """\
bandwidth: 1 Gbit/s
latency: 50 us
topology: mesh
devices:
  - {name: a, address: '10.0.0.1:50051', speed: 1.5, memory: 1 GB}
  - name: b
    address: 10.0.0.2:50051
  - {name: c, address: 'c.local:50051'}
links:
  - {from: a, to: b, bandwidth: 100 Mbit/s, latency: 2 ms}
models:
  - path: model.onnx
    name: m
    scheme: InH
    input_shapes: {image: [1, 3, 8, 8]}
  - {path: other.onnx, objective: throughput, profiles: [{x: [1, 4]}, {x: [2, 4]}]}
"""


def _make_cluster(draw: random.Random) -> bytes:
    return mutated_text(draw, CLUSTER)


def _feed_cluster(case: bytes) -> None:
    from flexpie.master.cluster_file import read_cluster_file

    read_cluster_file(_file("cluster.yaml", case))


@cache
def _calibration() -> str:
    from dataclasses import fields

    from flexpie.core.rates import DeviceRates
    from flexpie.master.calibration_file import Calibration, DeviceCalibration, write_calibration

    rates = DeviceRates(**{field.name: 1e9 for field in fields(DeviceRates)})
    devices = tuple(DeviceCalibration(name, f"{name}.local:50051", 1, rates) for name in "ab")
    path = _folder() / "written.yaml"
    write_calibration(path, Calibration("2026-01-01T00:00:00", devices, {("a", "b"): Link(1e8, 1e-4)}))
    return path.read_text()


def _make_calibration(draw: random.Random) -> bytes:
    return mutated_text(draw, _calibration())


def _feed_calibration(case: bytes) -> None:
    from flexpie.master.calibration_file import read_calibration

    read_calibration(_file("calibration.yaml", case))


# --------------------------------------------------------------------------------------------- plan files

CLUSTER_OF_TWO = Cluster((Device("a", "a:1"), Device("b", "b:1")), Link(1e9 / 8, 50e-6))


@cache
def _model_bytes() -> bytes:
    from tests.integration import master_models

    return master_models.convolutions(_folder() / "conv.onnx").read_bytes()


@cache
def _plan() -> str:
    from flexpie import pipeline
    from flexpie.planner.plan_file import plan_to_json

    _model_bytes()
    model = pipeline.import_file(_folder() / "conv.onnx")
    plan = pipeline.plan_model(model, CLUSTER_OF_TWO, "InH").plan
    return plan_to_json(model.graph, CLUSTER_OF_TWO, plan)


def _make_plan(draw: random.Random) -> bytes:
    if draw.random() < 0.4:
        return mutated_text(draw, _plan())
    value = json.loads(_plan())
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = mutated_json(draw, value)
    return json.dumps(value).encode(errors="surrogatepass")


def _feed_plan(case: bytes) -> None:
    from flexpie.planner.plan_file import plan_from_json
    from flexpie.wire.plan_files import read_plan_text

    plan_from_json(read_plan_text(_file("plan.json", case)), _graph(), CLUSTER_OF_TWO)


@cache
def _graph() -> LayerGraph:
    from flexpie import pipeline

    _model_bytes()
    return pipeline.import_file(_folder() / "conv.onnx").graph


# --------------------------------------------------------------------------------------------- ONNX files


@cache
def _models() -> tuple[bytes, ...]:
    import flexpie_models
    from tests.integration import master_models

    def attention(path: Path) -> Path:
        path.write_bytes(flexpie_models.build("digits", batch=1).SerializeToString())
        return path

    makers = (master_models.convolutions, master_models.large_weight, attention, master_models.every_type)
    found = [make(_folder() / f"{make.__name__}.onnx").read_bytes() for make in makers]
    return tuple(content for content in found if len(content) < 400_000)


def _make_model(draw: random.Random) -> bytes:
    import onnx

    chosen = draw.choice(_models())
    if draw.random() < 0.5:
        return mutated(draw, chosen, _models())
    message = onnx.ModelProto.FromString(chosen)
    for _ in range(draw.choice((1, 1, 2, 4))):
        message = mutated_message(draw, message)  # type: ignore[assignment]
    return message.SerializeToString()


def _feed_model(case: bytes) -> None:
    """As the master takes a model; one that is taken is planned and compiled as well."""
    from flexpie import pipeline

    model = pipeline.import_file(_file("model.onnx", case))
    pipeline.compile_plan(model, pipeline.plan_model(model, CLUSTER_OF_TWO, "InH").plan)


def _feed_subgraph(case: bytes) -> None:
    """As a worker looks for the files that a subgraph names."""
    try:
        list(external_locations(memoryview(case)))
    except ValueError as error:
        raise FlexPieError(ErrorCode.CORRUPT_PACKAGE, str(error)) from error


# ---------------------------------------------------------------------------------------------- the store


@cache
def _database() -> bytes:
    from flexpie.master.store import FILE_NAME, Store, StoredDeployment, StoredModel

    folder = _folder() / "store"
    folder.mkdir()
    with closing(Store(folder)) as store:
        store.begin_run("cluster", "calibration")
        store.keep_plan("key", _plan())
        store.keep_model(StoredModel("m", "0" * 64, "m.onnx", ({"x": (1, 3)},), "auto", "latency", ""))
        store.keep_deployment("m", 0, StoredDeployment("0" * 64, b"content"))
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (folder / FILE_NAME).read_bytes()


def _make_database(draw: random.Random) -> bytes:
    return mutated(draw, _database())


def _feed_database(case: bytes) -> None:
    from flexpie.master.store import FILE_NAME, Store

    folder = _folder() / "opened"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(case)
    with closing(Store(folder)) as store:
        store.begin_run("cluster", "calibration")
        for model in store.models():
            store.deployments(model.name)
        store.plan("key")


# ----------------------------------------------------------------------------------------------------- all

GROUPS: Mapping[str, Mapping[str, Target]] = {
    "wire": {
        "frame": Target(_make_frame, _feed_frame, 800),
        "stream": Target(_make_stream, _feed_stream, 500),
        "value": Target(_make_value, _feed_value, 800),
        "program": Target(_make_program, _feed_program, 600),
        "request": Target(_make_request, _feed_request, 500),
    },
    "files": {
        "cluster": Target(_make_cluster, _feed_cluster, 300),
        "calibration": Target(_make_calibration, _feed_calibration, 200),
        "plan": Target(_make_plan, _feed_plan, 500),
        "store": Target(_make_database, _feed_database, 150),
    },
    "models": {
        "model": Target(_make_model, _feed_model, 200),
        "subgraph": Target(_make_model, _feed_subgraph, 300),
    },
}
"""Targets by name; those of a group run in one process."""
TARGETS = {name: target for group in GROUPS.values() for name, target in group.items()}


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _file(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    return path


def _parsed(kind: type[Any], case: bytes) -> Any:
    """A message; bytes that are none are refused before anybody sees them."""
    try:
        return kind.FromString(case)
    except DecodeError as error:
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, str(error)) from error
