"""FlexPie: one ONNX model, answered by several small devices at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flexpie.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    # The SDK pulls in gRPC; `import flexpie` alone stays light.
    if name in {"AsyncClient", "Client"}:
        from flexpie import client

        return getattr(client, name)
    raise AttributeError(f"module 'flexpie' has no attribute {name!r}")
