"""A connection may take its time: what answers is a real server behind a relay that is slow to begin."""

import asyncio
from contextlib import AsyncExitStack

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from flexpie.security.channels import open_async_channel
from flexpie.wire.limits import channel_options

SLOW_SECONDS = 0.5
"""That a handshake takes on a small device which computes, or with one lost packet."""


def test_one_slow_handshake_is_waited_for() -> None:
    asyncio.run(_ask_through_a_slow_relay())


async def _ask_through_a_slow_relay() -> None:
    async with AsyncExitStack() as stack:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, None)
        connections: list[asyncio.Task[None]] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(asyncio.create_task(_relay(reader, writer, port)))

        relay = await stack.enter_async_context(await asyncio.start_server(connected, "127.0.0.1", 0))
        address = f"127.0.0.1:{relay.sockets[0].getsockname()[1]}"
        async with open_async_channel(address, channel_options(), None) as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert len(connections) == 1
        await asyncio.gather(*connections)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    await asyncio.sleep(SLOW_SECONDS)
    behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
