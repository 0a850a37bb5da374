"""The worker's heartbeats, for its master and for its peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from flexpie.wire.v1 import peer_pb2
from flexpie.worker.node import WorkerNode

SHORTEST_INTERVAL_SECONDS = 0.01
LONGEST_INTERVAL_SECONDS = 60.0
"""A caller may ask for any interval; it gets one within these."""


def beat_handler(node: WorkerNode) -> Any:
    """The RPC handler of `PeerService.Beat`.

    Beats come from the event loop, which only moves messages; computing and building, which take long, are done by
    other threads, in onnxruntime and without Python's lock. So a worker that is busy beats on.
    """

    async def beat(
        request: peer_pb2.BeatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_pb2.BeatReply]:
        asked = request.interval_milliseconds / 1000
        interval = min(max(asked, SHORTEST_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS)
        while True:
            yield _report(node) if request.with_reports else peer_pb2.BeatReply()
            await asyncio.sleep(interval)

    return grpc.unary_stream_rpc_method_handler(
        beat,
        request_deserializer=peer_pb2.BeatRequest.FromString,
        response_serializer=peer_pb2.BeatReply.SerializeToString,
    )


def _report(node: WorkerNode) -> peer_pb2.BeatReply:
    return peer_pb2.BeatReply(unreachable=node.peers.unreachable, samples=node.samples.take())
