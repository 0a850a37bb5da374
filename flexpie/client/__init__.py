"""The SDK: ask a running master, from ordinary or asyncio code.

    with flexpie.Client("localhost:50050") as client:
        outputs = client.infer("resnet18", {"image": image})

Every failure is a `flexpie.core.errors.FlexPieError` with a code, a cause and a remedy.
"""

from flexpie.client.asynchronous import AsyncClient
from flexpie.client.blocking import Client
from flexpie.client.types import (
    DeviceInfo,
    LoadProgress,
    MasterStatus,
    ModelInfo,
    ProfileInfo,
    RequestTrace,
    SegmentInfo,
    TensorInfo,
    TraceSpan,
)

__all__ = [
    "AsyncClient",
    "Client",
    "DeviceInfo",
    "LoadProgress",
    "MasterStatus",
    "ModelInfo",
    "ProfileInfo",
    "RequestTrace",
    "SegmentInfo",
    "TensorInfo",
    "TraceSpan",
]
