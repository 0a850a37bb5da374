"""Channels, encrypted where there are credentials."""

from __future__ import annotations

import grpc

from flexpie.security.credentials import Credentials
from flexpie.wire.limits import ChannelOptions


def open_channel(address: str, options: ChannelOptions, credentials: Credentials | None) -> grpc.Channel:
    """A channel for threads; connects when it is used."""
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials.channel, options=options)


def open_async_channel(address: str, options: ChannelOptions, credentials: Credentials | None) -> grpc.aio.Channel:
    """A channel for the running event loop; connects when it is used."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials.channel, options=options)
