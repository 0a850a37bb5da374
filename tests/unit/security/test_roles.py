"""Every call has its line in the table of who may call what."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import flexpie.wire.v1
from flexpie.security.roles import ALLOWED, Role, is_allowed, role_of
from flexpie.wire.limits import MASTER_SOURCE, SOURCE_KEY
from flexpie.wire.open_inference import public_descriptor

_MASTER = "/flexpie.wire.v1.MasterService/"
_WORKER = "/flexpie.wire.v1.WorkerService/"
_EXCHANGE = "/flexpie.wire.v1.PeerService/Exchange"
_INFERENCE = "/inference.GRPCInferenceService/"


def _all_calls() -> set[str]:
    """Every call that a daemon of ours answers, from the protocol's own descriptors."""
    names = [found.name for found in pkgutil.iter_modules(flexpie.wire.v1.__path__) if found.name.endswith("_pb2")]
    modules = [importlib.import_module(f"flexpie.wire.v1.{name}") for name in names]
    assert len(modules) >= 5
    found = set()
    for module in (*modules, health_pb2, reflection_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            found |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    public = public_descriptor()
    own = f"/flexpie.wire.v1.{public.service[0].name}/"
    return {f"/{public.package}.{call.removeprefix('/flexpie.wire.v1.')}" if call.startswith(own) else call
            for call in found}  # fmt: skip


def test_every_call_is_in_the_table_and_nothing_else() -> None:
    # Health.List came with a newer version of the package than the oldest that we take.
    optional = {"/grpc.health.v1.Health/List"}
    assert set(ALLOWED) - optional == _all_calls() - optional


@pytest.mark.parametrize("role", Role)
def test_a_role_survives_the_way_through_a_certificate(role: Role) -> None:
    assert role_of(["https://example.org/", role.uri]) is role


@pytest.mark.parametrize(
    "uris",
    [[], ["flexpie://role/"], ["flexpie://role/root"], ["http://role/master"], [Role.CLIENT.uri, Role.MASTER.uri]],
)
def test_anything_else_is_no_role(uris: list[str]) -> None:
    assert role_of(uris) is None


@pytest.mark.parametrize(
    ("call", "may"),
    [
        (_INFERENCE + "ModelInfer", {Role.CLIENT, Role.OPERATOR, Role.MASTER}),
        (_MASTER + "MasterStatus", {Role.CLIENT, Role.OPERATOR, Role.MASTER}),
        (_MASTER + "Load", {Role.OPERATOR, Role.MASTER}),
        (_MASTER + "Unload", {Role.OPERATOR, Role.MASTER}),
        (_INFERENCE + "RepositoryModelLoad", {Role.OPERATOR, Role.MASTER}),
        (_WORKER + "Deploy", {Role.MASTER}),
        (_WORKER + "PushBlobs", {Role.MASTER}),
        (_EXCHANGE, {Role.MASTER, Role.WORKER}),
        (_WORKER + "NoSuchCall", set()),
    ],
)
def test_who_may_call_what(call: str, may: set[Role]) -> None:
    assert {role for role in Role if is_allowed(call, role, {})} == may
    assert not is_allowed(call, None, {})


def test_only_the_master_opens_a_stream_in_the_masters_name() -> None:
    for source, may in ((MASTER_SOURCE, {Role.MASTER}), ("1", {Role.MASTER, Role.WORKER})):
        assert {role for role in Role if is_allowed(_EXCHANGE, role, {SOURCE_KEY: source})} == may
