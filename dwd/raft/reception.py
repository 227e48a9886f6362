"""What other nodes may ask of this one: the host's side of the transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from dwd.base.errors import NotFound
from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.engine import Engine
from dwd.raft.lifecycle import Lifecycle
from dwd.raft.snapshots.copies import Copies
from dwd.raft.transport import Parcel, SnapshotHeader, SnapshotItem, SnapshotRequest


class Reception:
    """Implements `TransportHandler`."""

    def __init__(self, engine: Engine, copies: Copies, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._copies = copies
        self._lifecycle = lifecycle

    def received(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        self._engine.received(node, group, parcels)

    def broken(self, node: NodeId) -> None:
        self._engine.unreachable(node)

    async def serve_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        """Tells the core when the target has taken all of it, or broke off, so that it sends the rest from the log."""
        del node
        replica = self._engine.replicas.get(request.group)
        if replica is None or replica.id != request.source or replica.quarantined is not None:
            raise NotFound("raft.no_replica", "the replica asked for a snapshot does not live here")
        total, ended = 0, False
        try:
            async with aclosing(self._copies.serve(request, replica.applier.machine.copy_snapshot)) as items:
                async for item in items:
                    if isinstance(item, SnapshotHeader):
                        total = item.bytes_total
                    yield item
            ended = True
        finally:
            asked = not request.ranged or request.length > 0
            whole = ended and (not request.ranged or request.offset + request.length >= total)
            if asked and (whole or not ended) and not replica.closed:
                replica.snapshot_sent(request.target, ok=whole)

    async def prepare_replica(self, group: GroupId, replica: ReplicaId, *, witness: bool) -> None:
        await self._lifecycle.create(group, replica, witness=witness)

    async def drop_replica(self, group: GroupId, replica: ReplicaId) -> None:
        await self._lifecycle.drop(group, replica)
