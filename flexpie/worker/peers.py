"""Streams to other workers: one for each deployment and peer, kept from its building until its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from flexpie.core.address import host_of
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.channels import open_async_channel
from flexpie.security.credentials import Credentials
from flexpie.wire.framing import Failure, Frame, decode_frame
from flexpie.wire.lean_call import LeanCall, door_of
from flexpie.wire.limits import (
    DEPLOYMENT_KEY,
    EXCHANGE_METHOD,
    PROTOCOL,
    PROTOCOL_KEY,
    SOURCE_KEY,
    ChannelOptions,
)
from flexpie.wire.outbox import Outbox, Writing
from flexpie.wire.status import error_from_rpc
from flexpie.wire.waiting import within
from flexpie.worker.events import Event, FailureArrived, PeerLost, RequestKey
from flexpie.worker.peer_watch import PeerWatches

CONNECT_SECONDS = 10.0
"""How long building a deployment waits for its peers."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """Where a link leads to, and from whom."""

    deployment_id: str
    own_index: int
    index: int
    name: str
    address: str


class PeerLink:
    """The stream to one peer of a deployment. Opens it again whenever it breaks."""

    def __init__(
        self,
        peer: Peer,
        options: ChannelOptions,
        watches: PeerWatches,
        deliver: Callable[[Event], None],
        credentials: Credentials | None = None,
    ) -> None:
        """`deliver` gets `PeerLost` when the stream breaks, and `FailureArrived` when the peer refuses a frame."""
        self._peer = peer
        # A connection of its own: that of a peer which vanished stays open, and must not be handed out again.
        self._options: ChannelOptions = [*options, ("grpc.use_local_subchannel_pool", 1)]
        self._max_message_bytes = int(dict(options)["grpc.max_send_message_length"])
        self._credentials = credentials
        self._deliver = deliver
        self._outbox: Writing | None = None
        self._opened = asyncio.Event()
        self._error: FlexPieError | None = None
        self._silence: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the stream is given up, where it is the watch that says so."""
        self._leave = watches.follow(peer.address, self._give_up)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"link to {peer.name}")

    async def opened(self) -> None:
        """Return when the stream is open for the first time.

        Raises ``DEVICE_UNREACHABLE`` after `CONNECT_SECONDS`, or what the peer refused it with.
        """
        try:
            await within(CONNECT_SECONDS, self._opened.wait())
        except asyncio.TimeoutError:
            raise self._error or self._unreachable("does not answer") from None

    def send(self, message: bytes) -> None:
        """Queue a message; raises ``DEVICE_UNREACHABLE`` while the stream is broken, or ``OVERLOADED``."""
        if self._outbox is None:
            raise self._unreachable("cannot be reached")
        self._outbox.put(message)

    async def close(self) -> None:
        """Close the stream; what is still queued is lost."""
        self._leave()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            async with open_async_channel(self._peer.address, self._options, self._credentials) as channel:
                was_open = await self._hold_stream_of_the_living(channel)
            pause = FIRST_PAUSE_SECONDS if was_open else min(pause * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    def _give_up(self, reason: str) -> None:
        """The peer does not answer; nothing on the stream would say so."""
        if not self._silence.done():
            self._silence.set_result(reason)

    async def _hold_stream_of_the_living(self, channel: grpc.aio.Channel) -> bool:
        """Open the stream and use it until it breaks or the peer counts as lost; returns whether it was open."""
        self._silence = asyncio.get_running_loop().create_future()
        holding = asyncio.create_task(self._hold(channel))
        try:
            either: set[asyncio.Future[Any]] = {holding, self._silence}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if holding.done():
                return holding.result()
            was_open, self._outbox = self._outbox is not None, None
            self._broken(self._unreachable(f"is lost: {self._silence.result()}"))
            if was_open:
                self._deliver(PeerLost(self._peer.deployment_id, self._peer.index, receiving=False))
            return was_open
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    async def _hold(self, channel: grpc.aio.Channel) -> bool:
        """Open the stream, through the peer's door where there is one, and use it until it breaks; returns whether it
        was open."""
        peer, metadata = self._peer, self._metadata()
        try:
            door = await door_of(channel)
            if door.port:
                call = LeanCall(peer.name, EXCHANGE_METHOD, metadata, self._take)
                encryption = None if self._credentials is None else self._credentials.client_context
                await call.open(host_of(peer.address), door, self._max_message_bytes, encryption=encryption)
                return await self._hold_lean(call)
        except grpc.aio.AioRpcError as error:
            return self._broken(error_from_rpc(error, peer.name))
        except (OSError, asyncio.TimeoutError) as error:
            _log.info("door not reached deployment=%s peer=%s port=%d: %s",
                      peer.deployment_id, peer.name, door.port, error)  # fmt: skip
        return await self._hold_stream(channel)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (
            (PROTOCOL_KEY, str(PROTOCOL)),
            (SOURCE_KEY, str(self._peer.own_index)),
            (DEPLOYMENT_KEY, self._peer.deployment_id),
        )

    async def _hold_lean(self, call: LeanCall) -> bool:
        """Use a stream through the peer's door; returns whether it was open."""
        try:
            await call.accepted()
            self._outbox = call
            self._opened.set()
            error = await call.over
            self._outbox = None
            if error is not None:
                self._deliver(PeerLost(self._peer.deployment_id, self._peer.index, receiving=False))
            self._broken(error or self._unreachable("closed the link"))
            return True
        except FlexPieError as refusal:
            return self._broken(refusal)
        finally:
            self._outbox = None
            await call.close()

    def _take(self, frame: Frame) -> None:
        """Only what the peer could not take comes back."""
        if isinstance(frame.content, Failure):
            self._deliver(FailureArrived(RequestKey(frame.deployment_id, frame.request_id), frame.content))

    async def _hold_stream(self, channel: grpc.aio.Channel) -> bool:
        """Open the stream and use it until it breaks; returns whether it was open."""
        metadata = self._metadata()
        call: grpc.aio.StreamStreamCall[Any, Any] = channel.stream_stream(EXCHANGE_METHOD)(metadata=metadata)
        try:
            if PROTOCOL_KEY not in dict(await call.initial_metadata()):  # the peer has not accepted the stream
                return self._broken(await _error_of(call, self._peer.name))
            error = await self._use(call)
            if error is not None or await call.code() is not grpc.StatusCode.OK:
                self._deliver(PeerLost(self._peer.deployment_id, self._peer.index, receiving=False))
            # Else the peer has left in order, and has taken every message.
            self._broken(error or await _error_of(call, self._peer.name))
            return True
        except grpc.aio.AioRpcError as error:
            return self._broken(error_from_rpc(error, self._peer.name))
        finally:
            call.cancel()

    async def _use(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> FlexPieError | None:
        """Write and read until the stream ends; returns why it is of no use if it has not."""
        writing = asyncio.create_task(self._write(call))
        try:
            await self._read(call)
            return None
        except FlexPieError as error:  # what came is no frame
            return error
        finally:
            self._outbox = None
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        outbox = self._outbox = Outbox(call.write, self._max_message_bytes)
        self._opened.set()
        await outbox.run()

    async def _read(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        """Keep a read pending until the stream ends: only refused frames come back."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while isinstance(message := await call.read(), bytes):
                self._take(decode_frame(message))

    def _broken(self, error: FlexPieError) -> bool:
        if self._error is None or self._error.message != error.message:  # not the same line for each attempt
            peer = self._peer
            _log.warning("link broken deployment=%s peer=%s address=%s: %s",
                         peer.deployment_id, peer.name, peer.address, error.message)  # fmt: skip
        self._error = error
        return False

    def _unreachable(self, what: str) -> FlexPieError:
        return FlexPieError(
            ErrorCode.DEVICE_UNREACHABLE,
            f"{self._peer.name} ({self._peer.address}) {what}.",
            "Check that its worker runs and that the network connects the two.",
        )


async def _error_of(call: grpc.aio.StreamStreamCall[Any, Any], peer: str) -> FlexPieError:
    """Why a call ended."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return FlexPieError(ErrorCode.DEVICE_UNREACHABLE, f"{peer} closed the link.")
    metadata, trailing = await call.initial_metadata(), await call.trailing_metadata()
    return error_from_rpc(grpc.aio.AioRpcError(code, metadata, trailing, await call.details()), peer)
