"""The node's way to other nodes, and theirs to it: channels out, one gRPC server in, membership for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from dwd.base.ids import NodeId, hex_id
from dwd.meta.view import ControlView
from dwd.node.directory import Membership, load_peers, save_peers
from dwd.node.surroundings import Surroundings
from dwd.rpc.admission import Limits
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer

_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The server is started by `Listeners`, once every service is registered."""

    membership: Membership
    channels: Channels
    server: RpcServer

    @classmethod
    @asynccontextmanager
    async def open(cls, around: Surroundings) -> AsyncIterator[Network]:
        own = around.identity.node_id
        membership = Membership(own, load_peers(around.files, around.paths))
        relay = None if around.faults is None else around.faults.relay(own, membership)
        bounds = around.settings.limits
        network = cls(
            membership=membership,
            channels=Channels(around.identity.credential, relay or membership),
            server=RpcServer(
                str(around.settings.listen.grpc),
                around.identity.credential,
                membership,
                clock=around.clock,
                limits=Limits(calls_max=bounds.calls_max, calls_per_peer_max=bounds.calls_per_peer_max),
            ),
        )
        try:
            yield network
        finally:
            await network.server.stop()
            await network.channels.close()
            if relay is not None:
                await relay.close()

    def introduce(self, around: Surroundings, addresses: Mapping[NodeId, str]) -> None:
        """Take over where nodes are from one that brings a replica here: control may come from a node that joined
        after this one, whose address is known from nowhere else.
        """
        if self.membership.introduce(addresses):
            save_peers(around.files, around.paths, self.membership.addresses())

    def follow(self, around: Surroundings, view: ControlView) -> None:
        """Take addresses and members from control, now and whenever it changes; who was removed is cut off."""
        known = dict(self.membership.addresses())

        def changed() -> None:
            nonlocal known
            topology = view.topology_or_none()
            if topology is None:
                return
            for node in self.membership.update(topology):
                self._cut_off(node)
            addresses = dict(self.membership.addresses())
            if addresses != known:
                known = addresses
                save_peers(around.files, around.paths, addresses)

        view.watch(changed)
        changed()

    def _cut_off(self, node: NodeId) -> None:
        _log.info("node is no longer a member", peer=hex_id(node))
        self.channels.forget(node)
        self.server.close_peer(node)
