"""What goes wrong with real devices: a worker dies or hangs, a cable is pulled, a link is slow or works one way."""

from __future__ import annotations

from collections.abc import Callable

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed.network import Network
from flexpie.testbed.processes import HostProcess


class Faults:
    """The faults of one testbed. Hosts go by name: a device's, or ``master``.

    Every method raises FlexPieError(INVALID_ARGUMENT) for a host that there is not.
    """

    def __init__(self, network: Network, worker: Callable[[str], HostProcess]) -> None:
        """`worker` finds the worker process of a device."""
        self._network = network
        self._worker = worker
        self._unplugged: set[str] = set()
        self._lost: set[tuple[str, str]] = set()
        self._slow: set[str] = set()

    def kill(self, device: str) -> None:
        """End a worker without warning (SIGKILL); `Testbed.restart_worker` starts it again."""
        self._worker(device).kill()

    def stop(self, device: str) -> None:
        """Let a worker hang (SIGSTOP): its host still answers, the worker does not."""
        self._worker(device).freeze()

    def resume(self, device: str) -> None:
        """Let a stopped worker go on (SIGCONT)."""
        self._worker(device).thaw()

    def unplug(self, host: str) -> None:
        """Pull a host's cable: nobody reaches it, and no packet tells so."""
        self._network.plug(host, connected=False)
        self._unplugged.add(host)

    def plug(self, host: str) -> None:
        """Put a host's cable back in. Does nothing when it is."""
        if host in self._unplugged:
            self._network.plug(host, connected=True)
            self._unplugged.remove(host)

    def cut(self, first: str, second: str) -> None:
        """Lose everything between two neighbours, in both directions."""
        self.cut_one_way(first, second)
        self.cut_one_way(second, first)

    def cut_one_way(self, source: str, destination: str) -> None:
        """Lose what `source` sends to its neighbour `destination`; the other direction works.

        On a ring and a star that is also what it passes on over this link.
        """
        self._network.lose(source, destination, lost=True)
        self._lost.add((source, destination))

    def mend(self, first: str, second: str) -> None:
        """Lose nothing between two neighbours any more, in neither direction."""
        for pair in {(first, second), (second, first)} & self._lost:
            self._network.lose(*pair, lost=False)
            self._lost.remove(pair)

    def slow(self, host: str, bandwidth_bits_per_second: float) -> None:
        """Give a host's port another bandwidth, in both directions."""
        if bandwidth_bits_per_second <= 0:
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, "A slow link has a bandwidth above 0.", "Use unplug.")
        self._network.shape(host, bandwidth_bits_per_second)
        self._slow.add(host)

    def quicken(self, host: str) -> None:
        """Give a host's port the bandwidth that it is described with."""
        if host in self._slow:
            self._network.shape(host, self._network.host(host).bandwidth_bits_per_second)
            self._slow.remove(host)

    def restore(self) -> None:
        """Repair every link: cables back in, nothing lost, bandwidths as described. Workers stay as they are."""
        for host in sorted(self._unplugged):
            self.plug(host)
        for source, destination in sorted(self._lost):
            self.mend(source, destination)
        for host in sorted(self._slow):
            self.quicken(host)
