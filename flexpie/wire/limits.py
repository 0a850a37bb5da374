"""Numbers and names that both ends of a connection must agree on, and the settings of its channel."""

from __future__ import annotations

PROTOCOL = 2
"""Number of the protocol between master and workers; both ends must have the same."""

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Default bound of one gRPC message."""
MAX_CONNECTIONS = 1024
"""Default bound of connections that a daemon takes at once."""
CONNECT_MILLISECONDS = 4_000
"""How long connecting may take, a handshake of TLS included: a lost packet is sent again after one second and after
three, and a small device that computes needs hundreds of milliseconds for its keys."""
HANDSHAKE_MILLISECONDS = 10_000
"""Who connects and then says nothing is not waited for any longer."""
MAX_BLOBS = 100_000
"""More blobs than this are no package."""
CHUNK_BYTES = 1024 * 1024
"""Bytes in one message of an upload."""
MAX_TIMEOUT_SECONDS = 3600.0
"""A request without a deadline gets this one, so that none stays for ever."""

EXCHANGE_METHOD = "/flexpie.wire.v1.PeerService/Exchange"
"""The call of a data stream."""
PROTOCOL_KEY = "flexpie-protocol"
SOURCE_KEY = "flexpie-source"
DEPLOYMENT_KEY = "flexpie-deployment"
MASTER_KEY = "flexpie-master"
"""Metadata keys of a data stream, explained in peer.proto."""
MASTER_SOURCE = "master"
"""What the master calls itself in the metadata."""

ChannelOptions = list[tuple[str, int | str]]


def channel_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> ChannelOptions:
    """Options of every channel between FlexPie's processes.

    Pings are for clients: in time, they end calls to a machine that vanished without closing its connection (power,
    cable). Between master and workers that takes too long, and heartbeats find it (`flexpie.core.heartbeat`).
    """
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 5000),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MILLISECONDS),  # what gRPC calls so is the time of one attempt
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.enable_http_proxy", 0),  # devices are on the local network
    ]


def server_options(
    max_message_bytes: int = MAX_MESSAGE_BYTES, max_connections: int = MAX_CONNECTIONS
) -> ChannelOptions:
    """Options of every server of FlexPie. A connection beyond `max_connections` is closed at once."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 5000),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MILLISECONDS),
        ("grpc.so_reuseport", 0),  # else two servers could share a port without noticing
    ]
