"""Roles, and the one table of who may call what.

A certificate tells its owner's role in a URI among its names: ``flexpie://role/worker``. A call that is not in the
table is refused to everybody.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from flexpie.wire.limits import MASTER_SOURCE, SOURCE_KEY
from flexpie.wire.open_inference import SERVICE as OPEN_INFERENCE

_URI = "flexpie://role/"


class Role(enum.Enum):
    """What the owner of a certificate is."""

    CLIENT = "client"
    """Asks models, and reads what there is to see."""
    OPERATOR = "operator"
    """A client that may also load and unload models."""
    WORKER = "worker"
    """Computes its part of requests; exchanges tensors with other workers."""
    MASTER = "master"
    """Deploys to workers and sends them requests."""

    @property
    def uri(self) -> str:
        """How a certificate says it."""
        return _URI + self.value


def role_of(uris: Iterable[str]) -> Role | None:
    """The role that a certificate's URIs tell; None for no role of ours, or for more than one."""
    named = [uri.removeprefix(_URI) for uri in uris if uri.startswith(_URI)]
    return Role(named[0]) if len(named) == 1 and named[0] in {role.value for role in Role} else None


_EVERYBODY = frozenset(Role)
_READERS = frozenset({Role.CLIENT, Role.OPERATOR, Role.MASTER})
_OPERATORS = frozenset({Role.OPERATOR, Role.MASTER})
_MASTER = frozenset({Role.MASTER})
_MASTER_SERVICE = "flexpie.wire.v1.MasterService"
_WORKER_SERVICE = "flexpie.wire.v1.WorkerService"


def _calls(service: str, names: str, roles: frozenset[Role]) -> dict[str, frozenset[Role]]:
    return {f"/{service}/{name}": roles for name in names.split()}


ALLOWED: Mapping[str, frozenset[Role]] = {
    **_calls(OPEN_INFERENCE, "ServerLive ServerReady ServerMetadata ModelReady ModelMetadata", _READERS),
    **_calls(OPEN_INFERENCE, "ModelInfer ModelStreamInfer RepositoryIndex", _READERS),
    **_calls(OPEN_INFERENCE, "RepositoryModelLoad RepositoryModelUnload", _OPERATORS),
    **_calls(_MASTER_SERVICE, "Models MasterStatus", _READERS),
    **_calls(_MASTER_SERVICE, "Load Unload TraceModel", _OPERATORS),
    **_calls(_WORKER_SERVICE, "Handshake OfferBlobs PushBlobs Deploy Undeploy CheckPeer Trace", _MASTER),
    **_calls(_WORKER_SERVICE, "WorkerStatus", _OPERATORS),
    **_calls("flexpie.wire.v1.PeerService", "Beat Door Exchange", frozenset({Role.MASTER, Role.WORKER})),
    **_calls("grpc.health.v1.Health", "Check List Watch", _EVERYBODY),
    **_calls("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", _EVERYBODY),
}
"""Roles by full name of a call. Every call of every service is here."""


def is_allowed(method: str, role: Role | None, metadata: Mapping[str, str | bytes]) -> bool:
    """Whether a caller with this role may make a call; a data stream in the master's name is for the master alone."""
    if role is not Role.MASTER and metadata.get(SOURCE_KEY) == MASTER_SOURCE:
        return False
    return role in ALLOWED.get(method, frozenset())
