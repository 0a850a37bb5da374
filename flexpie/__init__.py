"""FlexPie: one ONNX model, answered by several small devices at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flexpie.client import AsyncClient, Client
    from flexpie.core.errors import ErrorCode, FlexPieError

__all__ = ["AsyncClient", "Client", "ErrorCode", "FlexPieError", "__version__"]


def __getattr__(name: str) -> Any:
    # The SDK pulls in gRPC; `import flexpie` alone stays light.
    if name in {"AsyncClient", "Client"}:
        from flexpie import client

        return getattr(client, name)
    if name in {"ErrorCode", "FlexPieError"}:
        from flexpie.core import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'flexpie' has no attribute {name!r}")
