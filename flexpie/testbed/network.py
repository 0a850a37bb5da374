"""The network of a testbed: a bridge, and one host behind each of its ports; in namespaces of its own.

A port is a veth pair with a token bucket (tbf) on both of its ends. Nothing is visible outside of the namespaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from flexpie.core.cluster import Topology
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.testbed import namespaces, routing
from flexpie.testbed.description import MASTER, Description
from flexpie.testbed.naming import Names

_BRIDGE = "br"
_PORT = "eth0"
"""A host's end of its veth pair; the bridge's end is called as the host's number."""
_PERMANENT = 0x80
"""State of a neighbour that is never looked up."""
_QUEUE_SECONDS = 0.05
"""Longest wait in a port's queue before packets are dropped."""


@dataclass(frozen=True)
class Host:
    """A device, or the master's machine."""

    name: str
    namespace: str
    address: str
    """IPv4."""
    bandwidth_bits_per_second: float


def hosts_of(description: Description, names: Names) -> tuple[Host, ...]:
    """The devices in their order, and then the master."""
    devices = [
        Host(device.name, names.device(at), routing.device_address(at), device.bandwidth_bits_per_second)
        for at, device in enumerate(description.devices)
    ]
    return (*devices, Host(MASTER, names.master, routing.MASTER_ADDRESS, description.fastest_bandwidth))


def burst_bytes(bandwidth_bits_per_second: float, wanted: int | None = None) -> int:
    """How much an idle port sends at once.

    Small, because it costs no time: with 256 KiB, a message of 200 kB passes a port of any bandwidth at once. Not
    smaller than the packets that the hosts build (`packet_bytes`): the kernel would cut each one into pieces of 1500
    bytes, which costs many times the CPU.
    """
    if wanted is not None:
        return wanted
    if bandwidth_bits_per_second >= 2e9:
        return 80 * 1024
    return round(min(36 * 1024, max(5 * 1024, bandwidth_bits_per_second / 8 * 0.003)))


def packet_bytes(burst: int) -> int:
    """The largest packet that a host may hand to its port: a burst less the headers of its segments."""
    return min(65536, int(burst * 0.93))


class Network:
    """The hosts and their links. Made by `build`; removed by removing its namespaces."""

    def __init__(self, description: Description, names: Names) -> None:
        self.description = description
        self.names = names
        self.hosts = hosts_of(description, names)
        self._by_name = {host.name: at for at, host in enumerate(self.hosts)}
        # A packet that is too large for the slowest port on its way would be cut there.
        self._packet = packet_bytes(min(self._burst(host.bandwidth_bits_per_second) for host in self.hosts))

    def build(self) -> None:
        """Make the namespaces, links, addresses and routes.

        Raises FlexPieError(INVALID_ARGUMENT) where the kernel lacks a part.
        """
        namespaces.create(self.names.hub)
        namespaces.call_in(self.names.hub, self._make_bridge)
        for at, host in enumerate(self.hosts):
            namespaces.create(host.namespace)
            namespaces.call_in(self.names.hub, partial(self._make_port, at))
            namespaces.call_in(host.namespace, partial(self._set_up_host, at))
            self.shape(host.name, host.bandwidth_bits_per_second)

    def host(self, name: str) -> Host:
        """The host of that name; raises FlexPieError(INVALID_ARGUMENT) when there is none."""
        return self.hosts[self._index(name)]

    def shape(self, name: str, bandwidth_bits_per_second: float) -> None:
        """Set the bandwidth of a host's port, in both directions."""
        at = self._index(name)
        burst = self._burst(bandwidth_bits_per_second)
        packet = min(self._packet, packet_bytes(burst))
        for namespace, interface in ((self.names.hub, str(at)), (self.hosts[at].namespace, _PORT)):
            namespaces.call_in(namespace, partial(_shape, interface, bandwidth_bits_per_second, burst, packet))

    def plug(self, name: str, *, connected: bool) -> None:
        """Plug a host's cable in or out. What is sent meanwhile is lost without a word."""
        port = str(self._index(name))

        def switch() -> None:
            with IPRoute() as kernel:
                kernel.link("set", index=_find(kernel, port), state="up" if connected else "down")

        namespaces.call_in(self.names.hub, switch)

    def lose(self, source: str, destination: str, *, lost: bool) -> None:
        """Lose what `source` sends to its neighbour `destination`, without a word, or no longer.

        The source is told its own hardware address as that of its neighbour: a bridge never sends a frame back to
        where it came from.

        Raises FlexPieError(INVALID_ARGUMENT) where the topology has no such link.
        """
        first, second = self._index(source), self._index(destination)
        self._check_neighbours(first, second)
        address = self.hosts[second].address

        def change() -> None:
            with IPRoute() as kernel:
                port = _find(kernel, _PORT)
                if lost:
                    hardware = kernel.get_links(port)[0].get("address")
                    kernel.neigh("replace", dst=address, lladdr=hardware, ifindex=port, state=_PERMANENT)
                else:
                    kernel.neigh("del", dst=address, ifindex=port)

        namespaces.call_in(self.hosts[first].namespace, change)

    def _burst(self, bandwidth_bits_per_second: float) -> int:
        return burst_bytes(bandwidth_bits_per_second, self.description.burst_bytes)

    def _index(self, name: str) -> int:
        if name not in self._by_name:
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, f"The testbed has no {name!r}.",
                               f"It has {', '.join(self._by_name)}.")  # fmt: skip
        return self._by_name[name]

    def _check_neighbours(self, first: int, second: int) -> None:
        topology, count = self.description.topology, len(self.description.devices)
        if first == second or (
            count not in (first, second) and not routing.are_neighbours(topology, count, first, second)
        ):
            raise FlexPieError(
                ErrorCode.INVALID_ARGUMENT,
                f"No link goes from {self.hosts[first].name} to {self.hosts[second].name} on a {topology.value}.",
                "Name two neighbours.",
            )

    def _make_bridge(self) -> None:
        _turn_off_ipv6()
        with _explained(), IPRoute() as kernel:
            kernel.link("add", ifname=_BRIDGE, kind="bridge", br_mcast_snooping=0)
            kernel.link("set", index=_find(kernel, _BRIDGE), state="up")

    def _make_port(self, at: int) -> None:
        with _explained(), IPRoute() as kernel:
            peer = {"ifname": _PORT, "net_ns_fd": self.hosts[at].namespace}
            kernel.link("add", ifname=str(at), kind="veth", peer=peer)
            kernel.link("set", index=_find(kernel, str(at)), master=_find(kernel, _BRIDGE), state="up")

    def _set_up_host(self, at: int) -> None:
        _turn_off_ipv6()
        topology, count = self.description.topology, len(self.description.devices)
        if topology is not Topology.MESH and at < count:
            _forward()
        with IPRoute() as kernel:
            port = _find(kernel, _PORT)
            for index in (_find(kernel, "lo"), port):
                kernel.link("set", index=index, state="up")
            kernel.addr("add", index=port, address=self.hosts[at].address, prefixlen=routing.PREFIX_LENGTH)
            for other in range(count) if at < count else ():
                hop = routing.next_hop(topology, count, at, other)
                if other not in (at, hop):
                    way = self.hosts[hop].address
                    kernel.route("add", dst=f"{self.hosts[other].address}/32", gateway=way, oif=port)


def _find(kernel: IPRoute, interface: str) -> int:
    return int(kernel.link_lookup(ifname=interface)[0])


def _shape(interface: str, bandwidth_bits_per_second: float, burst: int, packet: int) -> None:
    with _explained(), IPRoute() as kernel:
        index = _find(kernel, interface)
        kernel.link("set", index=index, gso_max_size=packet, gro_max_size=packet)
        rate = round(bandwidth_bits_per_second / 8)
        limit = burst + round(rate * _QUEUE_SECONDS)
        kernel.tc("replace", "tbf", index, rate=rate, burst=burst, limit=limit)


def _forward() -> None:
    """Let this host pass on what is meant for another one, over the same port and without telling a shorter way."""
    _write_settings({
        "conf/all/rp_filter": "0",
        f"conf/{_PORT}/rp_filter": "0",
        "conf/all/accept_redirects": "0",
        f"conf/{_PORT}/accept_redirects": "0",
        "conf/all/send_redirects": "0",
        f"conf/{_PORT}/send_redirects": "0",
        "ip_forward": "1",
    })  # fmt: skip


def _write_settings(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        Path("/proc/sys/net/ipv4", name).write_text(value)


def _turn_off_ipv6() -> None:
    """Its neighbour discovery would be the only traffic of an idle testbed."""
    for scope in ("all", "default"):
        setting = Path("/proc/sys/net/ipv6/conf", scope, "disable_ipv6")
        if setting.exists():
            setting.write_text("1")


@contextmanager
def _explained() -> Iterator[None]:
    """Say what it means when the kernel does not know a kind of link or queue."""
    try:
        yield
    except NetlinkError as error:
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            f"The kernel cannot emulate the network: {error}.",
            "The testbed needs the kernel modules veth, bridge and sch_tbf, and root's rights.",
        ) from None
