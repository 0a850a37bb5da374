"""Whether other workers are there: one watch for each address, however many deployments have streams to it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import grpc

from flexpie.core.heartbeat import Heartbeat
from flexpie.security.channels import open_async_channel
from flexpie.security.credentials import Credentials
from flexpie.wire.beats import BeatListener
from flexpie.wire.limits import ChannelOptions
from flexpie.wire.status import error_from_rpc
from flexpie.wire.waiting import within

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0

OnLost = Callable[[str], None]
"""Is told why a peer counts as lost."""

_log = logging.getLogger(__name__)


class PeerWatches:
    """The peers of all deployments.

    A connection whose other end vanished stays open for many minutes, and nothing that is sent on it fails. So each
    peer is asked for heartbeats; when they stay away, whoever follows the peer is told.
    """

    def __init__(self, options: ChannelOptions, credentials: Credentials | None = None) -> None:
        self.heartbeat = Heartbeat()
        """Of peers that are followed from now on."""
        # A connection of its own: a dead one must not be handed out again.
        self._options: ChannelOptions = [*options, ("grpc.use_local_subchannel_pool", 1)]
        self._credentials = credentials
        self._watches: dict[str, _Watch] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def unreachable(self) -> list[str]:
        """Addresses that are followed and do not answer now."""
        return [address for address, watch in self._watches.items() if not watch.reachable]

    def follow(self, address: str, on_lost: OnLost) -> Callable[[], None]:
        """Be told whenever a peer stops answering; returns what ends that."""
        watch = self._watches.get(address)
        if watch is None:
            watch = self._watches[address] = _Watch(address, self._options, self._credentials, self.heartbeat)
        watch.followers.append(on_lost)

        def leave() -> None:
            watch.followers.remove(on_lost)
            if not watch.followers:
                del self._watches[address]
                self._end(watch)

        return leave

    async def check(self, address: str) -> bool:
        """Whether a worker at this address answers within the time that a peer has."""
        watch = _Watch(address, self._options, self._credentials, self.heartbeat)
        try:
            await within(self.heartbeat.dead_after_seconds, watch.answered.wait())
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            self._end(watch)

    async def close(self) -> None:
        """Wait for the watches that were ended."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _end(self, watch: _Watch) -> None:
        watch.task.cancel()
        self._closing.add(watch.task)
        watch.task.add_done_callback(self._closing.discard)


class _Watch:
    """Of one address."""

    def __init__(
        self, address: str, options: ChannelOptions, credentials: Credentials | None, heartbeat: Heartbeat
    ) -> None:
        self.reachable = True
        """Until it is known better."""
        self.answered = asyncio.Event()
        """Set for ever once it has answered."""
        self.followers: list[OnLost] = []
        self._address = address
        self._options = options
        self._credentials = credentials
        self._listener = BeatListener(heartbeat, lambda beat: self._heard())
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"heartbeats of {address}")

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._lost(await self._listen())
            pause = FIRST_PAUSE_SECONDS if self.reachable else min(pause * 2, LONGEST_PAUSE_SECONDS)
            self.reachable = False
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _listen(self) -> str:
        """One connection; returns why it is of no use any more."""
        async with open_async_channel(self._address, self._options, self._credentials) as channel:
            try:
                return await self._listener.listen(channel)
            except grpc.aio.AioRpcError as error:
                return error_from_rpc(error, self._address).message

    def _heard(self) -> None:
        if not self.reachable:
            _log.info("peer answers again address=%s", self._address)
        self.reachable = True
        self.answered.set()

    def _lost(self, reason: str) -> None:
        if self.reachable:
            _log.warning("peer lost address=%s: %s", self._address, reason)
            for tell in list(self.followers):
                tell(reason)
