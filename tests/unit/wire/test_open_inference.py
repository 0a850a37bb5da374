"""Our text of the Open Inference Protocol is the protocol that tritonclient speaks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tritonclient.grpc import service_pb2 as triton

from flexpie.wire.open_inference import (
    SERVICE,
    OpenInferenceStub,
    open_inference_handler,
    public_descriptor,
    reflection_pool,
)
from flexpie.wire.v1 import master_pb2, open_inference_pb2, worker_pb2

OURS = open_inference_pb2.DESCRIPTOR
THEIRS = triton.DESCRIPTOR
METHODS = [method.name for method in OURS.services_by_name["GRPCInferenceService"].methods]


def described(field: FieldDescriptor) -> tuple[Any, ...]:
    message = field.message_type.full_name if field.message_type else ""
    for package in (OURS.package, THEIRS.package):
        message = message.removeprefix(package)
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return field.name, field.number, field.type, field.is_repeated, message, oneof


def assert_equal(ours: Descriptor, theirs: Descriptor) -> None:
    assert sorted(map(described, ours.fields)) == sorted(map(described, theirs.fields))
    assert sorted(ours.nested_types_by_name) == sorted(theirs.nested_types_by_name)
    for name, nested in ours.nested_types_by_name.items():
        assert_equal(nested, theirs.nested_types_by_name[name])


@pytest.mark.parametrize("name", sorted(OURS.message_types_by_name))
def test_messages_are_tritons(name: str) -> None:
    assert_equal(OURS.message_types_by_name[name], THEIRS.message_types_by_name[name])


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_tritons(name: str) -> None:
    ours = OURS.services_by_name["GRPCInferenceService"].methods_by_name[name]
    theirs = THEIRS.services_by_name["GRPCInferenceService"].methods_by_name[name]
    assert ours.input_type.name == theirs.input_type.name
    assert ours.output_type.name == theirs.output_type.name
    assert (ours.client_streaming, ours.server_streaming) == (theirs.client_streaming, theirs.server_streaming)


def test_nothing_of_ours_registers_the_public_package() -> None:
    code = (
        "import flexpie.wire.open_inference as o\n"
        "from google.protobuf import descriptor_pool\n"
        "o.reflection_pool([])\n"
        "try: descriptor_pool.Default().FindServiceByName(o.SERVICE)\n"
        "except KeyError: print('free')\n"
        "from tritonclient.grpc import service_pb2\n"
        "print(service_pb2.ModelInferRequest.DESCRIPTOR.full_name)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split() == ["free", "inference.ModelInferRequest"]


def test_reflection_shows_the_public_names() -> None:
    pool = reflection_pool([master_pb2.DESCRIPTOR, worker_pb2.DESCRIPTOR])
    service = pool.FindServiceByName(SERVICE)
    assert [method.name for method in service.methods] == METHODS
    assert service.methods_by_name["ModelInfer"].input_type.full_name == "inference.ModelInferRequest"
    assert pool.FindServiceByName("flexpie.wire.v1.MasterService")
    assert pool.FindServiceByName("flexpie.wire.v1.WorkerService")
    assert public_descriptor().package == "inference"


class Echo:
    """A server that knows little."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, name)

        return refuse

    async def ModelReady(self, request: Any, context: object) -> Any:
        return open_inference_pb2.ModelReadyResponse(ready=request.name == "known")


def test_stub_and_handler_meet_under_the_public_name() -> None:
    async def ask(name: str) -> bool:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((open_inference_handler(Echo()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = open_inference_pb2.ModelReadyRequest(name=name)
            reply = await OpenInferenceStub(channel).ModelReady(request, timeout=10)
        await server.stop(None)
        return bool(reply.ready)

    assert asyncio.run(ask("known"))
    assert not asyncio.run(ask("unknown"))


def test_an_unknown_call_is_named() -> None:
    channel = grpc.insecure_channel("127.0.0.1:1")
    with pytest.raises(AttributeError, match="no call ModelStatistics"):
        OpenInferenceStub(channel).ModelStatistics  # noqa: B018
    channel.close()
