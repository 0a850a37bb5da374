"""What both daemons do to listen: which addresses need a word of consent, and a port that is really theirs."""

from __future__ import annotations

import errno
import ipaddress
import socket

import grpc

from flexpie.core.errors import ErrorCode, FlexPieError

_LOCALHOST = "127.0.0.1"


def check_exposure(host: str, insecure: bool, encrypted: bool = False) -> None:
    """Raise ``INVALID_ARGUMENT`` for a host that other machines can reach, unless the user accepted that.

    `encrypted` is whether connections are encrypted, and callers show certificates.
    """
    if not insecure and not encrypted and not _is_local(host):
        raise FlexPieError(
            ErrorCode.INVALID_ARGUMENT,
            f"--host {host} can be reached by other machines, and connections are not encrypted.",
            "Give it a certificate with --tls-dir (`flexpie certs` makes one), leave --host away to serve this machine "
            "only, or add --insecure if everybody on the network may use it.",
        )


def listen(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None = None) -> str:
    """Bind the server to a port (0: any free one) and return ``host:port`` with the real port.

    With `credentials` it takes encrypted connections only.

    Raises ``PORT_IN_USE``, or ``INVALID_ARGUMENT`` for a host that is not this machine's.
    """
    address = own_address(host)
    check_port(address, port)
    try:
        target = _join(address, port)
        bound = server.add_insecure_port(target) if credentials is None else server.add_secure_port(target, credentials)
    except RuntimeError as error:
        raise _refused(host, port) from error
    if bound == 0:
        raise _refused(host, port)
    return _join(address, bound)


def own_address(host: str) -> str:
    """What to listen on for a host: one address, as gRPC is content when either of two is free."""
    return _LOCALHOST if host == "localhost" else host


def check_port(address: str, port: int, option: str = "--port") -> None:
    """Find out why an address cannot be bound, before others only say that it cannot; `option` is how users choose it.

    Raises ``PORT_IN_USE``, or ``INVALID_ARGUMENT`` for a port that is not this process's, or a host that is not this
    machine's.
    """
    try:
        found = socket.getaddrinfo(address.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, target in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _refused(address, port, option) from error
        if error.errno == errno.EACCES:
            what = f"Port {port} needs more rights than this process has."
            raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, f"Choose a {option} above 1023.") from error
        what = f"Cannot listen on {address}: {error.strerror or error}."
        raise FlexPieError(ErrorCode.INVALID_ARGUMENT, what, "Choose a --host that is an address here.") from error


def _refused(host: str, port: int, option: str = "--port") -> FlexPieError:
    return FlexPieError(
        ErrorCode.PORT_IN_USE,
        f"Port {port} on {host} is in use by another process.",
        f"Choose another {option}, or 0 for any free one.",
    )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _join(address: str, port: int) -> str:
    return f"[{address.strip('[]')}]:{port}" if ":" in address else f"{address}:{port}"
