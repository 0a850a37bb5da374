"""The worker's second port: streams of its peers, taken by `flexpie.wire.lean_stream` instead of gRPC's server."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import uuid
from collections.abc import Mapping

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.access import caller_in, refusal_of
from flexpie.security.credentials import Credentials
from flexpie.security.handshakes import refusals
from flexpie.security.roles import is_allowed
from flexpie.wire import lean_call
from flexpie.wire.grpc_fields import metadata_of, response_fields, trailers
from flexpie.wire.http2 import Fields
from flexpie.wire.lean_stream import LeanStream, field_of
from flexpie.wire.limits import (
    EXCHANGE_METHOD,
    HANDSHAKE_MILLISECONDS,
    MAX_CONNECTIONS,
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    PROTOCOL_KEY,
)
from flexpie.wire.serving import check_port, own_address
from flexpie.worker.streams import Caller, PeerServicer

_KEEPALIVE_SECONDS = 5
"""A connection on which nothing has come for this long is tried, and given up after as long again."""

_log = logging.getLogger(__name__)


class Door:
    """Takes `Exchange` streams for a `PeerServicer`."""

    def __init__(
        self,
        servicer: PeerServicer,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_connections: int = MAX_CONNECTIONS,
        credentials: Credentials | None = None,
    ) -> None:
        """With `credentials` connections are encrypted, and callers need certificates of a role that may exchange."""
        self._encryption = None if credentials is None else credentials.server_context
        self._servicer = servicer
        self._max_message_bytes = max_message_bytes
        self._max_connections = max_connections
        self._servers: list[asyncio.AbstractServer] = []
        self._visitors: set[_Visitor] = set()

    async def open(self, host: str, port: int = 0, *, unix_socket: bool = False) -> None:
        """Listen on a host's port (0: any free one), and let peers know of it; with `unix_socket`, on Linux, also on a
        Unix socket for those on the same machine.

        Raises ``PORT_IN_USE`` when it is taken, ``INVALID_ARGUMENT`` when it cannot be had for another reason.
        """
        loop, address = asyncio.get_running_loop(), own_address(host).strip("[]")
        check_port(address, port, "--peer-port")
        try:
            server = await loop.create_server(self._let_in, address, port, ssl=self._encryption)
        except OSError as error:  # taken since; more often the process may open no more files
            what = f"Peers cannot be taken on port {port} of {host}: {error.strerror or error}."
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, "Choose another --peer-port, or 'off'.") from error
        self._servers.append(server)
        name = ""
        if unix_socket and sys.platform == "linux":
            name = f"flexpie-{uuid.uuid4().hex}"
            near = await loop.create_unix_server(self._let_in, f"\0{name}", ssl=self._encryption)
            self._servers.append(near)
        self._servicer.door = lean_call.DoorAddress(server.sockets[0].getsockname()[1], name)

    def leave(self) -> None:
        """End every stream in order, when its last messages are written, and take no new ones."""
        self._servicer.door = lean_call.NO_DOOR
        for server in self._servers:
            server.close()
        for visitor in list(self._visitors):
            visitor.finish(None)

    def close(self) -> None:
        """End what is left."""
        for visitor in list(self._visitors):
            visitor.give_up()

    def _let_in(self) -> LeanStream:
        crowded = len(self._visitors) >= self._max_connections
        visitor = _Visitor(self._servicer, self._visitors, crowded=crowded, secured=self._encryption is not None)
        return LeanStream(visitor, is_client=False, max_message_bytes=self._max_message_bytes)


class _Visitor:
    """One connection."""

    def __init__(self, servicer: PeerServicer, visitors: set[_Visitor], *, crowded: bool, secured: bool) -> None:
        """`secured` is whether only certificates of some roles are let in."""
        self._secured = secured
        self._servicer = servicer
        self._visitors = visitors
        self._crowded = crowded
        self._stream: LeanStream | None = None
        self._caller: Caller | None = None
        self._number = 0
        self._patience: asyncio.TimerHandle | None = None

    def connected(self, stream: LeanStream) -> None:
        """See `StreamUser`."""
        self._stream = stream
        if self._crowded:
            self.give_up()
            return
        self._visitors.add(self)
        _keep_alive(stream)
        patience = HANDSHAKE_MILLISECONDS / 1000
        self._patience = asyncio.get_running_loop().call_later(patience, self.give_up)

    def headers_came(self, fields: Fields) -> None:
        """See `StreamUser`."""
        self._stop_waiting()
        try:
            called = field_of(fields, b":path").decode("ascii", "replace")
            if called != EXCHANGE_METHOD:
                what = f"This port takes {EXCHANGE_METHOD} only, not {called[:200]}."
                raise FlexPieError(ErrorCode.VERSION_MISMATCH, what, "Call the worker's --port.")
            metadata = metadata_of(fields)
            self._check(metadata)
            self._caller = Caller.of(metadata)
        except FlexPieError as error:
            self.finish(error)
            return
        if self._stream is not None:
            self._stream.send_headers(response_fields(((PROTOCOL_KEY, str(PROTOCOL)),)))
            self._number = self._servicer.enter(self._caller, self._stream)

    def _check(self, metadata: Mapping[str, str | bytes]) -> None:
        """Raise ``PERMISSION_DENIED`` for a caller whose certificate does not allow this stream."""
        if self._stream is None or not self._secured:
            return
        role, name = caller_in(self._stream.peer_certificate)
        if not is_allowed(EXCHANGE_METHOD, role, metadata):
            raise refusal_of(refusals(), EXCHANGE_METHOD, role, name, self._stream.peer)

    def message_came(self, message: memoryview) -> None:
        """See `StreamUser`."""
        if self._caller is None:
            return
        try:
            self._servicer.take(self._number, self._caller, message)
        except FlexPieError as error:
            _log.warning("stream ended source=%s: %s", self._caller.source, error.message)
            self.finish(error)
        except Exception as error:  # logged where it arose
            self.finish(FlexPieError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))

    def ended(self, trailers: Fields | None, reason: str) -> None:
        """See `StreamUser`."""
        if trailers is not None:
            self.finish(None)  # the peer has no more to send
        elif self._caller is None and reason:
            _log.info("connection ended before a stream: %s", reason)
        self._forget()

    def finish(self, error: FlexPieError | None) -> None:
        """End the stream in order, or with an error."""
        if self._caller is None and error is None:
            self.give_up()  # it has not even begun
            return
        if self._stream is not None:
            begun = self._caller is not None
            self._stream.finish(trailers(error) if begun else response_fields(()) + trailers(error))
        self._forget()

    def give_up(self) -> None:
        """End the connection at once."""
        if self._stream is not None:
            self._stream.abort()
        self._forget()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _forget(self) -> None:
        self._stop_waiting()
        self._visitors.discard(self)
        caller, self._caller, self._stream = self._caller, None, None
        if caller is not None:
            self._servicer.left(self._number, caller)


def _keep_alive(stream: LeanStream) -> None:
    """Let the kernel find out when the other end of a connection has vanished."""
    found = stream.socket
    if found is None or found.family == socket.AF_UNIX:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):  # not on every system
        if hasattr(socket, option):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_SECONDS)
    if hasattr(socket, "TCP_KEEPCNT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
