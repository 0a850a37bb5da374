"""The Open Inference Protocol under its public name.

Its messages are generated in FlexPie's own package (see open_inference.proto). On the wire only the names of service
and methods show, and those are given here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from flexpie.wire.v1 import open_inference_pb2

PUBLIC_PACKAGE = "inference"
SERVICE: Final = "inference.GRPCInferenceService"

_DESCRIPTOR = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


def open_inference_handler(servicer: Any) -> grpc.GenericRpcHandler:
    """The handler to add to a server, given an object with one method for each of the protocol's calls."""
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in _DESCRIPTOR.methods}
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


class OpenInferenceStub:
    """The protocol's calls on a channel: ``stub.ModelInfer(request)``; for sync and asyncio channels."""

    def __init__(self, channel: Any) -> None:
        for method in _DESCRIPTOR.methods:
            streaming = "stream_stream" if method.server_streaming else "unary_unary"
            call = getattr(channel, streaming)(
                f"/{SERVICE}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:  # for type checkers: the calls are set above
        raise AttributeError(f"the Open Inference Protocol has no call {name}")


def reflection_pool(files: Iterable[FileDescriptor]) -> DescriptorPool:
    """A pool of its own with these files and the protocol under its public name, for server reflection."""
    pool = DescriptorPool()
    for file in files:
        _add(pool, file)
    pool.Add(public_descriptor())
    return pool


def public_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """The protocol's file with the package that the rest of the world knows."""
    file = descriptor_pb2.FileDescriptorProto()
    open_inference_pb2.DESCRIPTOR.CopyToProto(file)
    own = f".{file.package}."
    file.name, file.package = "open_inference.proto", PUBLIC_PACKAGE
    messages = list(file.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            if field.type_name.startswith(own):
                field.type_name = f".{PUBLIC_PACKAGE}.{field.type_name.removeprefix(own)}"
    for method in file.service[0].method:
        method.input_type = f".{PUBLIC_PACKAGE}.{method.input_type.removeprefix(own)}"
        method.output_type = f".{PUBLIC_PACKAGE}.{method.output_type.removeprefix(own)}"
    return file


def _handler(method: MethodDescriptor, behaviour: Any) -> grpc.RpcMethodHandler[Any, Any]:
    make = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    return make(
        behaviour,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def _add(pool: DescriptorPool, file: FileDescriptor) -> None:
    """Add a file behind those that it imports."""
    for imported in file.dependencies:
        _add(pool, imported)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    pool.Add(copy)
