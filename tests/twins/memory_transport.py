"""Nodes of one process that reach each other, unless a test has cut the way between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from dwd.base.errors import DwError, Unavailable
from dwd.base.ids import GroupId, NodeId
from dwd.raft.transport import Parcel, SnapshotChunk, SnapshotItem, SnapshotRequest, TransportHandler


class MemoryNetwork:
    """`cut` holds one-way cuts (source, target). `chunks_until_break` breaks a snapshot's stream after so many,
    `hang_next_chunk` lets one stream stand still for ever, `refusals` are raised to those who ask, one each.
    """

    def __init__(self) -> None:
        self.handlers: dict[NodeId, TransportHandler] = {}
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.chunks_until_break: int | None = None
        self.corrupt_next_chunk = False
        self.hang_next_chunk = False
        self.refusals: list[DwError] = []
        self.requests: list[SnapshotRequest] = []

    def isolate(self, node: NodeId) -> None:
        for other in self.handlers:
            if other != node:
                self.cut |= {(node, other), (other, node)}

    def heal(self) -> None:
        self.cut.clear()

    def reachable(self, source: NodeId, target: NodeId) -> bool:
        return target in self.handlers and (source, target) not in self.cut


class MemoryTransport:
    def __init__(self, network: MemoryNetwork, node: NodeId) -> None:
        self._network = network
        self._node = node

    async def start(self, handler: TransportHandler) -> None:
        self._network.handlers[self._node] = handler

    def send(self, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
        if self._network.reachable(self._node, node):
            handler = self._network.handlers[node]
            asyncio.get_running_loop().call_soon(handler.received, self._node, group, parcels)

    async def fetch_snapshot(self, node: NodeId, request: SnapshotRequest) -> AsyncGenerator[SnapshotItem, None]:
        network = self._network
        network.requests.append(request)
        if not network.reachable(self._node, node) or not network.reachable(node, self._node):
            raise Unavailable("test.cut", "no way there")
        if network.refusals:
            raise network.refusals.pop(0)
        items = network.handlers[node].serve_snapshot(self._node, request)
        try:
            async for item in items:
                if isinstance(item, SnapshotChunk):
                    if network.chunks_until_break == 0:
                        network.chunks_until_break = None
                        raise Unavailable("test.break", "told to break")
                    if network.chunks_until_break is not None:
                        network.chunks_until_break -= 1
                    if network.hang_next_chunk:
                        network.hang_next_chunk = False
                        _ = await asyncio.Event().wait()
                    if network.corrupt_next_chunk:
                        network.corrupt_next_chunk = False
                        yield SnapshotChunk(offset=item.offset, data=item.data, crc32c=item.crc32c ^ 1)
                        continue
                yield item
        finally:
            await items.aclose()

    async def close(self) -> None:
        self._network.handlers.pop(self._node, None)

    def crash(self) -> None:
        """The process is gone: its peers see their streams break."""
        self._network.handlers.pop(self._node, None)
        for handler in self._network.handlers.values():
            handler.broken(self._node)
