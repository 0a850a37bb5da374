"""Daemons listen where they were told, on a port that is theirs, and say clearly why they cannot."""

from __future__ import annotations

import asyncio
import errno
import socket

import grpc
import pytest

from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.wire.limits import server_options
from flexpie.wire.serving import check_exposure, check_port, listen


def listened(host: str, port: int) -> str:
    async def bind() -> str:
        server = grpc.aio.server(options=server_options())
        address = listen(server, host, port)
        await server.start()  # only a server that was started gives its port back
        await server.stop(None)
        return address

    return asyncio.run(bind())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_port_zero_is_a_free_port(host: str) -> None:
    address, _, port = listened(host, 0).rpartition(":")
    assert address == "127.0.0.1"
    assert int(port) > 0


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FlexPieError, match="in use") as raised:
            listened("localhost", taken.getsockname()[1])
    assert raised.value.code is ErrorCode.PORT_IN_USE


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(FlexPieError, match=r"Cannot listen on 192\.0\.2\.1") as raised:
        listened("192.0.2.1", 0)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize("option", ["--port", "--peer-port"])
def test_a_port_of_the_system_is_named_with_its_option(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidden)
    with pytest.raises(FlexPieError, match="Port 99 needs more rights") as raised:
        check_port("127.0.0.1", 99, option)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
    assert raised.value.remedy == f"Choose a {option} above 1023."


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_this_machine_needs_no_consent(host: str) -> None:
    check_exposure(host, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "worker.local"])
def test_other_machines_need_consent(host: str) -> None:
    check_exposure(host, insecure=True)
    with pytest.raises(FlexPieError, match="--insecure"):
        check_exposure(host, insecure=False)
