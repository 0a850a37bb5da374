"""Real daemons with certificates: the whole way over TLS, and every kind of stranger turned away and logged."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from flexpie.cli.status import status as status_command
from flexpie.cli.verify import verify as verify_command
from flexpie.client import AsyncClient, Client
from flexpie.core.errors import ErrorCode, FlexPieError
from flexpie.security.authority import create_authority, issue
from flexpie.security.certificates import load_credentials, read_certificate
from flexpie.security.channels import open_channel
from flexpie.security.credentials import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Credentials, now
from flexpie.security.roles import Role
from flexpie.wire import lean_call
from flexpie.wire.lean_call import LeanCall
from flexpie.wire.limits import DEPLOYMENT_KEY, MASTER_KEY, MASTER_SOURCE, PROTOCOL, PROTOCOL_KEY, SOURCE_KEY
from flexpie.wire.open_inference import OpenInferenceStub
from flexpie.wire.v1 import open_inference_pb2, peer_pb2, worker_pb2
from flexpie.wire.v1.worker_pb2_grpc import WorkerServiceStub
from flexpie.worker.engine import run_unsplit
from tests.daemons import Daemon, start_master, start_worker, wait_until, write_cluster_file
from tests.integration import master_models as models
from tests.integration.worker_driver import driving
from tests.worker_programs import Z, onnx_package

TIMEOUT = 30.0
LOCAL = ["127.0.0.1", "localhost"]


@dataclass
class Secured:
    """Two workers and a master with certificates, and the folders of everybody's."""

    folder: Path
    certs: Path
    workers: dict[str, Daemon]
    master: Daemon

    def folder_of(self, role: Role, name: str = "x") -> Path:
        """The folder with a certificate, which is issued when it is needed first."""
        folder = self.certs / f"{role.value}-{name}"
        addresses = LOCAL if role in (Role.MASTER, Role.WORKER) else []
        return folder if folder.exists() else issue(self.certs, role, name, addresses)

    def client(self, role: Role = Role.CLIENT) -> Client:
        return Client(self.master.address, timeout=TIMEOUT, tls=self.folder_of(role))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    certs = folder / "certs"
    create_authority(certs)
    own = {name: str(issue(certs, Role.WORKER, name, LOCAL)) for name in "ab"}
    with (
        start_worker(folder, "a", "--tls-dir", own["a"]) as a,
        start_worker(folder, "b", "--tls-dir", own["b"]) as b,
    ):
        file = write_cluster_file(folder, {"a": a.address, "b": b.address})
        arguments = ["--tls-dir", str(issue(certs, Role.MASTER, "x", LOCAL))]
        with start_master(folder, file, *arguments) as master:
            yield Secured(folder, certs, {"a": a, "b": b}, master)


def _raw_channel(address: str, folder: Path) -> grpc.Channel:
    """A channel with a certificate that our own checks would refuse to show."""
    ca, certificate, key = ((folder / name).read_bytes() for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))


def _health(channel: Any) -> bytes:
    reply: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=TIMEOUT)
    return reply


def _logged(daemon: Daemon, text: str) -> int:
    return sum(text in line for line in daemon.log.splitlines())


def _is_logged(daemon: Daemon, text: str) -> bool:
    return _logged(daemon, text) > 0


def _assert_refused_and_logged_once(daemon: Daemon, reason: str, channel: grpc.Channel) -> None:
    before = _logged(daemon, reason)
    with channel:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                _health(channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: _logged(daemon, reason) > 0, f"{reason} in the log")
    assert _logged(daemon, reason) == max(before, 1)


def test_a_model_is_loaded_asked_and_right_over_tls(secured: Secured, tmp_path: Path) -> None:
    path = tmp_path / "conv.onnx"
    models.convolutions(path)
    with secured.client(Role.OPERATOR) as operator, secured.client() as client:
        info = operator.load(path, scheme="InH")
        assert set(info.devices) == {"a", "b"}
        feeds = {"image": np.random.default_rng(0).standard_normal(info.inputs[0].shape, np.float32)}
        answer = client.infer("conv", feeds)
        for name, expected in run_unsplit(path, feeds).items():
            np.testing.assert_allclose(answer[name], expected, atol=1e-4)
        assert client.ready("conv")

        async def ask() -> list[str]:
            async with AsyncClient(secured.master.address, tls=secured.folder_of(Role.CLIENT)) as twin:
                return sorted(await twin.infer("conv", feeds))

        assert asyncio.run(ask()) == sorted(answer)
        operator.unload("conv")


def test_a_client_may_ask_and_look_but_not_load(secured: Secured, tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    models.two_outputs(path)
    with secured.client() as client:
        assert [device.state for device in client.status().devices] == ["connected", "connected"]
        assert client.models() == []
        forbidden_calls: list[Callable[[], object]] = [lambda: client.load(path), lambda: client.unload("two")]
        for forbidden in forbidden_calls:
            with pytest.raises(FlexPieError, match="role client may not call") as refused:
                forbidden()
            assert refused.value.code is ErrorCode.PERMISSION_DENIED
            assert "operator" in refused.value.remedy
    credentials = load_credentials(secured.folder_of(Role.CLIENT))
    with open_channel(secured.master.address, [], credentials) as channel:
        stub: Any = OpenInferenceStub(channel)
        calls: list[Callable[[], object]] = [
            lambda: stub.RepositoryModelLoad(open_inference_pb2.RepositoryModelLoadRequest(model_name="two")),
            lambda: stub.RepositoryModelUnload(open_inference_pb2.RepositoryModelUnloadRequest(model_name="two")),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as denied:
                call()
            assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert _logged(secured.master, "refused call=/flexpie.wire.v1.MasterService/Load ") == 1
    with pytest.raises(FlexPieError, match="role worker may not call"), secured.client(Role.WORKER) as client:
        client.models()


def test_the_asyncio_client_is_told_so_too_however_much_it_uploads(secured: Secured, tmp_path: Path) -> None:
    path = models.large_weight(tmp_path / "large.onnx")

    async def load() -> FlexPieError:
        async with AsyncClient(secured.master.address, timeout=TIMEOUT, tls=secured.folder_of(Role.CLIENT)) as client:
            with pytest.raises(FlexPieError) as caught:
                await client.load(path)
            return caught.value

    async def several() -> list[FlexPieError]:
        return [await load() for _ in range(5)]

    assert {error.code for error in asyncio.run(several())} == {ErrorCode.PERMISSION_DENIED}


@pytest.mark.parametrize("role", [Role.CLIENT, Role.OPERATOR, Role.WORKER])
def test_only_the_master_deploys_to_a_worker(secured: Secured, role: Role) -> None:
    worker = secured.workers["a"]
    with open_channel(worker.address, [], load_credentials(secured.folder_of(role, "stranger"))) as channel:
        stub = WorkerServiceStub(channel)
        deploy = worker_pb2.DeployRequest(deployment_id="mine", model="mine")
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Deploy(deploy, timeout=TIMEOUT)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert f"role {role.value} may not call Deploy" in str(refused.value.details())
        calls: list[Callable[[], object]] = [
            lambda: stub.PushBlobs(iter([worker_pb2.BlobChunk()]), timeout=TIMEOUT),
            lambda: stub.Undeploy(worker_pb2.UndeployRequest(deployment_id="mine"), timeout=TIMEOUT),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as denied:
                call()
            assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    line = "refused call=/flexpie.wire.v1.WorkerService/Deploy name='stranger' peer=ipv4:127.0.0.1"
    found = [entry for entry in worker.log.splitlines() if line in entry and f"the role {role.value}" in entry]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("role", "source"), [(Role.CLIENT, "0"), (Role.CLIENT, MASTER_SOURCE), (Role.WORKER, MASTER_SOURCE)]
)
def test_no_stranger_opens_a_data_stream(secured: Secured, role: Role, source: str) -> None:
    metadata = ((PROTOCOL_KEY, str(PROTOCOL)), (SOURCE_KEY, source), (MASTER_KEY, "m"))
    with open_channel(secured.workers["a"].address, [], load_credentials(secured.folder_of(role))) as channel:
        exchange: Any = channel.stream_stream("/flexpie.wire.v1.PeerService/Exchange")
        with pytest.raises(grpc.RpcError) as refused:
            list(exchange(iter([b"frame"]), metadata=metadata, timeout=TIMEOUT))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def _door(secured: Secured) -> tuple[Daemon, lean_call.DoorAddress]:
    """A worker, and its second port."""
    worker = secured.workers["a"]
    with open_channel(worker.address, [], load_credentials(secured.folder_of(Role.WORKER, "peer"))) as channel:
        door: Any = channel.unary_unary("/flexpie.wire.v1.PeerService/Door", None, peer_pb2.DoorReply.FromString)
        reply = door(b"", timeout=TIMEOUT)
        assert reply.unix_socket
        return worker, lean_call.DoorAddress(reply.port, reply.unix_socket)


async def _come_in(door: lean_call.DoorAddress, credentials: Credentials | None, source: str) -> FlexPieError | None:
    """Open a stream at a door; returns why it was refused."""
    metadata = ((PROTOCOL_KEY, str(PROTOCOL)), (SOURCE_KEY, source), (MASTER_KEY, "m"), (DEPLOYMENT_KEY, "d"))
    call = LeanCall("the worker", "/flexpie.wire.v1.PeerService/Exchange", metadata, lambda frame: None)
    await call.open("127.0.0.1", door, 1000, encryption=credentials.client_context if credentials else None)
    try:
        await asyncio.wait_for(call.accepted(), TIMEOUT)
        return None
    except FlexPieError as error:
        return error
    finally:
        await call.close()


def test_the_door_lets_workers_in_and_the_master_as_itself(secured: Secured) -> None:
    worker, door = _door(secured)
    assert door.port
    doors = itertools.cycle((door, door._replace(unix_socket="")))

    def error_of(role: Role, source: str) -> FlexPieError | None:
        credentials = load_credentials(secured.folder_of(role, "visitor"))
        return asyncio.run(_come_in(next(doors), credentials, source))

    assert error_of(Role.WORKER, "0") is None
    assert error_of(Role.MASTER, MASTER_SOURCE) is None
    for role, source in ((Role.CLIENT, "0"), (Role.OPERATOR, "0"), (Role.WORKER, MASTER_SOURCE)):
        for _ in range(2):
            error = error_of(role, source)
            assert error is not None
            assert error.code is ErrorCode.PERMISSION_DENIED
            assert f"role {role.value} may not call Exchange" in error.message
        line = "refused call=/flexpie.wire.v1.PeerService/Exchange name='visitor'"
        found = [entry for entry in worker.log.splitlines() if line in entry and f"the role {role.value}" in entry]
        assert len(found) == 1
    assert "door not reached" not in secured.master.log + worker.log


def test_the_door_is_closed_to_strangers(secured: Secured, tmp_path: Path) -> None:
    worker, door = _door(secured)
    create_authority(tmp_path / "other", "Somebody else")
    foreign = issue(tmp_path / "other", Role.WORKER, "x", LOCAL)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):  # it does not trust the worker either
        asyncio.run(_come_in(door, load_credentials(foreign), "0"))
    trusting = load_credentials(foreign)
    trusting.client_context.check_hostname = False
    trusting.client_context.verify_mode = ssl.CERT_NONE
    for stranger, reason in ((trusting, "its certificate is from another authority"), (None, "it does not use TLS")):
        for _ in range(2):
            try:
                error = asyncio.run(_come_in(door, stranger, "0"))
            except OSError:
                continue
            assert error is not None
            assert error.code is ErrorCode.DEVICE_UNREACHABLE
        line = f"flexpie.security.handshakes refused connection: TLS handshake failed, {reason}"
        wait_until(partial(_is_logged, worker, line), f"{reason} in the log")
        assert _logged(worker, line) == 1


@pytest.mark.parametrize("port", ["worker", "master"])
def test_strangers_are_refused_and_logged_once(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    daemon = secured.master if port == "master" else secured.workers["b"]
    other = tmp_path / "other"
    create_authority(other, "Somebody else")
    foreign = issue(other, Role.MASTER, "x", LOCAL)
    (foreign / CA_FILE).write_bytes((secured.certs / CA_FILE).read_bytes())
    refused = "refused connection: TLS handshake failed, its certificate is from another authority"
    _assert_refused_and_logged_once(daemon, refused, _raw_channel(daemon.address, foreign))

    with monkeypatch.context() as patched:
        patched.setattr("flexpie.security.authority.now", lambda: now() - timedelta(days=2))
        expired = issue(secured.certs, Role.MASTER, f"expired-{port}", LOCAL, days=1)
    refused = "refused connection: TLS handshake failed, its certificate has expired"
    with pytest.raises(FlexPieError, match="expired on"):
        load_credentials(expired)
    _assert_refused_and_logged_once(daemon, refused, _raw_channel(daemon.address, expired))

    refused = "refused connection: TLS handshake failed, it has no certificate"
    anonymous = grpc.ssl_channel_credentials((secured.certs / CA_FILE).read_bytes())
    _assert_refused_and_logged_once(daemon, refused, grpc.secure_channel(daemon.address, anonymous))

    refused = "refused connection: TLS handshake failed, it does not use TLS"
    _assert_refused_and_logged_once(daemon, refused, grpc.insecure_channel(daemon.address))
    with Client(daemon.address, timeout=TIMEOUT) as client:
        with pytest.raises(FlexPieError, match="it closed the connection") as plain:
            client.models()
        assert "--tls-dir" in plain.value.remedy


def test_bytes_that_are_no_handshake_end_the_connection(secured: Secured) -> None:
    host, port = secured.workers["a"].address.split(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        while stranger.recv(1000):
            pass


def test_a_client_sees_why_a_server_is_not_the_one(secured: Secured, tmp_path: Path) -> None:
    other = tmp_path / "other"
    create_authority(other, "Somebody else")
    with Client(secured.master.address, timeout=TIMEOUT, tls=issue(other, Role.CLIENT, "x")) as client:
        with pytest.raises(FlexPieError, match="its certificate is from another authority") as refused:
            client.models()
        assert refused.value.code is ErrorCode.DEVICE_UNREACHABLE
    with Client(f"ip6-localhost.localhost:{secured.master.port}", tls=secured.folder_of(Role.CLIENT)) as client:
        assert not client.ready()
    with start_worker(tmp_path, "plain") as plain:
        tls = secured.folder_of(Role.CLIENT)
        with pytest.raises(FlexPieError, match="it does not use TLS, but this end does"):
            Client(plain.address, timeout=TIMEOUT, tls=tls).models()


@pytest.mark.parametrize(
    ("addresses", "authority", "reason"),
    [
        (["10.9.8.7", "pi.local"], "own", "its certificate is for other addresses"),
        (LOCAL, "other", "its certificate is from another authority"),
        ([], "none", "it does not use TLS, but this end does"),
    ],
)
def test_a_master_does_not_take_any_worker(
    secured: Secured, tmp_path: Path, addresses: list[str], authority: str, reason: str
) -> None:
    certs = secured.certs
    if authority == "other":
        certs = tmp_path / "other"
        create_authority(certs, "Somebody else")
    tls = [] if authority == "none" else [
        "--tls-dir", str(issue(certs, Role.WORKER, "w", addresses, folder=tmp_path / "w-certs"))
    ]  # fmt: skip
    with start_worker(tmp_path, "w", *tls) as worker:
        file = write_cluster_file(tmp_path, {"w": worker.address})
        arguments = ["--tls-dir", str(secured.folder_of(Role.MASTER)), "--startup-grace", "0"]
        with (
            start_master(tmp_path, file, *arguments) as master,
            Client(master.address, timeout=TIMEOUT, tls=secured.folder_of(Role.CLIENT)) as client,
        ):
            wait_until(lambda: reason in client.status().devices[0].reason, reason)
            assert client.status().devices[0].state == "unreachable"
            assert _logged(master, "device unreachable device=w") == 1


def test_a_daemon_refuses_a_certificate_for_another_role(secured: Secured, tmp_path: Path) -> None:
    worker = start_worker(tmp_path, "w", "--tls-dir", str(secured.folder_of(Role.CLIENT)))
    with worker:
        assert worker.wait(TIMEOUT) == 1
    assert "has the role client; this needs the role worker" in worker.log
    assert "Traceback" not in worker.log


def test_verify_needs_a_masters_certificate_and_works_with_it(secured: Secured, tmp_path: Path) -> None:
    path = models.convolutions(tmp_path / "conv.onnx")
    cluster = write_cluster_file(tmp_path, {name: worker.address for name, worker in secured.workers.items()})
    arguments = [str(path), "--cluster", str(cluster), "--runs", "1", "--tls-dir"]
    refused = CliRunner().invoke(verify_command, [*arguments, str(secured.folder_of(Role.OPERATOR))])
    assert refused.exit_code == 3
    assert "error [INVALID_ARGUMENT]" in refused.output
    assert "this needs the role master" in refused.output
    right = CliRunner().invoke(verify_command, [*arguments, str(secured.folder_of(Role.MASTER))])
    assert (right.exit_code, "equal within rounding" in right.output) == (0, True), right.output


def test_an_end_that_is_near_is_told_at_the_start_and_in_the_status(secured: Secured, tmp_path: Path) -> None:
    folder = issue(secured.certs, Role.WORKER, "old", LOCAL, days=20, folder=tmp_path / "old")
    with start_worker(tmp_path, "w", "--tls-dir", str(folder)) as worker:
        file = write_cluster_file(tmp_path, {"w": worker.address, "nobody": "127.0.0.1:1"})
        assert "expires in 19 days" in worker.log
        with start_master(tmp_path, file, "--tls-dir", str(secured.folder_of(Role.MASTER))) as master:
            tls = secured.folder_of(Role.CLIENT)
            with Client(master.address, timeout=TIMEOUT, tls=tls) as client:
                wait_until(lambda: client.status().devices[0].state == "connected", "the worker is connected")
                status = client.status()
            assert [device.certificate_expires_at for device in status.devices] == [
                int(read_certificate(folder / CERTIFICATE_FILE).expires.timestamp()),
                None,
            ]
            shown = CliRunner().invoke(status_command, ["--master", master.address, "--tls-dir", str(tls)]).output
    of_master, of_worker = shown.splitlines()[:2]
    assert "its certificate expires in 19 days, on" in of_worker
    assert "certificate" not in of_master


def test_a_package_that_is_sent_again_changes_nothing(secured: Secured) -> None:
    package, addresses = onnx_package(), [worker.address for worker in secured.workers.values()]
    credentials = load_credentials(secured.folder_of(Role.MASTER))

    async def replay() -> None:
        async with driving(*addresses, master_id="first", credentials=credentials) as master:
            await master.deploy(package, "kept")
            recorded = master.deploy_request(package.programs[0], "kept")
            assert (await master.infer("kept")).tolist() == Z.tolist()
            await master.call(0, "Deploy", recorded)  # as a master that has started again would ask
            other_plan = master.deploy_request(package.programs[1], "kept")
            other_master = master.deploy_request(package.programs[0], "kept", master_id="second")
            for changed in (other_plan, other_master):
                with pytest.raises(FlexPieError, match="exists already") as refused:
                    await master.call(0, "Deploy", changed)
                assert refused.value.code is ErrorCode.INVALID_ARGUMENT
            status = await master.call(0, "WorkerStatus", worker_pb2.WorkerStatusRequest())
            assert [known.deployment_id for known in status.deployments] == ["kept"]
            assert (await master.infer("kept")).tolist() == Z.tolist()
            for index in range(2):
                await master.call(index, "Undeploy", worker_pb2.UndeployRequest(deployment_id="kept"))

    asyncio.run(asyncio.wait_for(replay(), 90))


def test_no_secret_is_in_a_log(secured: Secured) -> None:
    keys = [path.read_text() for path in secured.certs.rglob("*.key")]
    assert len(keys) > 3
    secrets = [line for key in keys for line in key.splitlines() if not line.startswith("-----")]
    for daemon in (secured.master, *secured.workers.values()):
        output = daemon.log + "\n".join(daemon.stdout)
        assert "PRIVATE KEY" not in output
        assert not [secret for secret in secrets if secret in output]
