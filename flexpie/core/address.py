"""Addresses of daemons: ``host:port``."""

from __future__ import annotations


def host_of(address: str) -> str:
    """The host in ``host:port``, without the brackets of IPv6."""
    return address.rpartition(":")[0].strip("[]")


def check_address(text: str) -> None:
    """Raise ValueError, which says what is expected, for a text that is no ``host:port``."""
    host, colon, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    strange = not text.isprintable() or any(char.isspace() or char == "/" for char in text)
    if not colon or not host or bare_ipv6 or strange:
        raise ValueError("host:port, such as 'pi-1.local:50051' (IPv6 in brackets: '[fd00::1]:50051')")
    if not port.isascii() or not port.isdecimal() or not 1 <= int(port[:6]) <= 65535:
        raise ValueError("host:port with a port from 1 to 65535")
