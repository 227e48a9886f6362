"""Channels to the other nodes: one per node and lane, kept, and moved when a node's address changes.

A call on a channel whose node is down fails at once (calls never wait for a connection that cannot be made), and a
node that comes back is found within about a second: back-off stands in `dwd.rpc.options`.

Invariants: the certificate at the other end names exactly the node that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import grpc
import structlog

from dwd.base.errors import Busy, Unavailable
from dwd.base.ids import NodeId
from dwd.rpc.options import channel_options
from dwd.runtime.tasks import Tasks
from dwd.security.credentials import Credential
from dwd.security.peers import NODE_DOMAIN, node_server_name

CHANNELS_MAX = 10_000
CLOSE_GRACE_SECONDS = 1.0

_log = structlog.get_logger("dwd.rpc")


class Lane(Enum):
    """Each lane is a connection of its own, so that a heartbeat never waits behind megabytes."""

    URGENT = "urgent"
    """Small messages: consensus, control."""
    BULK = "bulk"
    """Fragments, snapshots, bodies."""


class Directory(Protocol):
    """Where nodes are."""

    def address(self, node_id: NodeId) -> str:
        """`host:port` of the node's gRPC listener. Raises NotFound. Must not block."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    address: str
    channel: grpc.aio.Channel


class Channels:
    """Owned by one event loop."""

    def __init__(self, credential: Credential, directory: Directory) -> None:
        self._credentials = _channel_credentials(credential)
        self._directory = directory
        self._kept: dict[tuple[str, Lane], _Kept] = {}
        self._closing = Tasks("rpc.channels", _close_failed)
        self._closed = False

    def to(self, node_id: NodeId, lane: Lane = Lane.URGENT) -> grpc.aio.Channel:
        """The channel to a node. Raises NotFound for a node the directory does not know."""
        return self._channel(node_server_name(node_id), self._directory.address(node_id), lane)

    def to_address(self, address: str) -> grpc.aio.Channel:
        """The channel to whichever node of the cluster listens at `address`: for bootstrap."""
        return self._channel(NODE_DOMAIN, address, Lane.URGENT, key=f"any@{address}")

    def forget(self, node_id: NodeId) -> None:
        """Close the channels to a node that was removed."""
        for lane in Lane:
            kept = self._kept.pop((node_server_name(node_id), lane), None)
            if kept is not None:
                self._close_later(kept)

    def renew(self, credential: Credential) -> None:
        """Use a new certificate for every connection from now on: all channels are replaced."""
        self._credentials = _channel_credentials(credential)
        for kept in self._kept.values():
            self._close_later(kept)
        self._kept.clear()

    async def close(self) -> None:
        """Close all channels; calls in progress are cancelled. Safe to call twice."""
        self._closed = True
        kept, self._kept = self._kept, {}
        for one in kept.values():
            await one.channel.close()
        await self._closing.close()

    def _channel(self, server_name: str, address: str, lane: Lane, *, key: str = "") -> grpc.aio.Channel:
        place = (key or server_name, lane)
        kept = self._kept.get(place)
        if kept is not None and kept.address == address:
            return kept.channel
        if self._closed:
            raise Unavailable("rpc.stopping", "this node is stopping")
        if kept is not None:
            self._close_later(kept)
        elif len(self._kept) >= CHANNELS_MAX:
            raise Busy("rpc.too_many_channels", f"this node has {CHANNELS_MAX} channels open")
        channel = grpc.aio.secure_channel(address, self._credentials, options=channel_options(server_name))
        self._kept[place] = _Kept(address=address, channel=channel)
        return channel

    def _close_later(self, kept: _Kept) -> None:
        _ = self._closing.spawn(kept.channel.close(CLOSE_GRACE_SECONDS), name=f"close {kept.address}")


def _channel_credentials(credential: Credential) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=credential.authority,
        private_key=credential.key,
        certificate_chain=credential.certificate,
    )


def _close_failed(task: str, error: BaseException) -> None:
    _log.warning("rpc.channel_close_failed", task=task, exc_info=error)
