"""Every call of master and worker, with what may be sent to it: right messages, wrong ones, and no messages at all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from flexpie.wire import limits
from flexpie.wire.codec import program_to_proto
from flexpie.wire.framing import Cancel, Data, encode_frame
from flexpie.wire.open_inference import SERVICE as OPEN_INFERENCE
from flexpie.wire.v1 import master_pb2, open_inference_pb2, peer_pb2, worker_pb2
from tests import worker_programs
from tests.fuzz.mutating import Descriptor, mutated, mutated_message, random_message

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """A call of a service, and right messages for it."""

    path: str
    """``/service/method``."""
    message: Descriptor
    request_streaming: bool
    response_streaming: bool
    examples: Sequence[Message] = ()
    metadata: Sequence[Metadata] = field(default=((),))
    """Of which one is chosen."""

    def messages(self, draw: random.Random) -> list[bytes]:
        """What one call sends: one message, or some where it is a stream."""
        return [self._message(draw) for _ in range(draw.choice((1, 1, 2, 4)) if self.request_streaming else 1)]

    def _message(self, draw: random.Random) -> bytes:
        if draw.random() < 0.1:
            return draw.randbytes(draw.choice((0, 1, 3, 30, 2000)))
        if not self.examples or draw.random() < 0.4:
            message = random_message(draw, self.message)
        else:
            message = draw.choice(self.examples)
            for _ in range(draw.randrange(3)):
                message = mutated_message(draw, message)
        content = message.SerializeToString()
        return mutated(draw, content) if draw.random() < 0.15 else content


def master_calls() -> list[Call]:
    """Of the master's services."""
    examples: dict[str, Sequence[Message]] = {
        "Load": [
            master_pb2.LoadRequest(spec=master_pb2.LoadSpec(name="uploaded", total_bytes=3, scheme="auto")),
            master_pb2.LoadRequest(chunk=master_pb2.FileChunk(file_name="m.onnx", data=b"abc")),
        ],
        "ModelInfer": [_request()],
        "ModelStreamInfer": [_request()],
    }
    found = [_call("flexpie.wire.v1.MasterService", method, examples) for method in _methods(master_pb2)]
    return found + [_call(OPEN_INFERENCE, method, examples) for method in _methods(open_inference_pb2)]


def worker_calls(peer: str) -> list[Call]:
    """Of a worker's services; `peer` is the address of another one, for which deployments need not wait."""
    package = worker_programs.onnx_package()
    blobs = [worker_programs.ref(content) for content in package.blobs.values()]
    references = [worker_pb2.BlobChunk(data=content) for content in package.blobs.values()]
    for chunk, blob in zip(references, blobs, strict=True):
        chunk.blob.sha256, chunk.blob.nbytes = blob.sha256, blob.nbytes
    deploy = worker_pb2.DeployRequest(
        deployment_id="fuzz", program=program_to_proto(package.programs[0]), peers={1: peer}, model="m"
    )
    examples: dict[str, Sequence[Message]] = {
        "Handshake": [worker_pb2.HandshakeRequest(version="0.1.0", protocol=limits.PROTOCOL)],
        "OfferBlobs": [worker_pb2.OfferBlobsRequest(blobs=[chunk.blob for chunk in references])],
        "PushBlobs": references,
        "Deploy": [deploy],
        "Undeploy": [worker_pb2.UndeployRequest(deployment_id="fuzz")],
    }
    found = [_call("flexpie.wire.v1.WorkerService", method, examples) for method in _methods(worker_pb2)]
    return [*found, _exchange()]


def _exchange() -> Call:
    contents = (Data(0, -1), Data(1, 1), Cancel("gone"))
    frames = [peer_pb2.Frame.FromString(encode_frame("fuzz", 1, 1000, content, (bytes(16),))) for content in contents]
    protocol = (limits.PROTOCOL_KEY, str(limits.PROTOCOL))
    metadata: list[Metadata] = [
        (protocol, (limits.SOURCE_KEY, "master"), (limits.MASTER_KEY, "m")),
        (protocol, (limits.SOURCE_KEY, "1"), (limits.DEPLOYMENT_KEY, "fuzz")),
        (protocol, (limits.SOURCE_KEY, "-1")),
        (protocol,),
        ((limits.PROTOCOL_KEY, "x" * 100),),
        (),
    ]
    return Call("/flexpie.wire.v1.PeerService/Exchange", peer_pb2.Frame.DESCRIPTOR, True, True, frames, metadata)


def _request() -> Message:
    request = open_inference_pb2.ModelInferRequest(model_name="conv", raw_input_contents=[bytes(3 * 16 * 12 * 4)])
    request.inputs.add(name="image", datatype="FP32", shape=(1, 3, 16, 12))
    return request


def _methods(module: Any) -> Iterator[Descriptor]:
    for service in module.DESCRIPTOR.services_by_name.values():
        yield from service.methods


def _call(service: str, method: Descriptor, examples: Mapping[str, Sequence[Message]]) -> Call:
    return Call(
        f"/{service}/{method.name}",
        method.input_type,
        method.client_streaming,
        method.server_streaming,
        examples.get(method.name, ()),
    )
