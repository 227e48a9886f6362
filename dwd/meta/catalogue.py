"""What repair and collection see of metadata: the block rows of the shards this node leads."""

from __future__ import annotations

from typing import Protocol

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId, GroupId, LayoutEpoch, LogIndex, Stamp
from dwd.meta.client import MetaClient
from dwd.meta.core.shard.commands import NEVER, AckGc, AdvanceBlocks, ReplaceBlock, UpdateBlock
from dwd.meta.core.shard.queries import BlockPage, BlockPageAnswer, FindBlocks, GcAnswer, GcPage, RepairPage
from dwd.meta.core.shard.rows import ShardCounts


class BlockCatalogue(Protocol):
    """Pages as the queries of the same names give them; updates are compare-and-swap."""

    def groups(self) -> tuple[GroupId, ...]:
        """Shards led by this node now: their pages are answered here, the rest is other nodes' work."""
        ...

    def position(self, group: GroupId) -> LogIndex:
        """What this node has applied of the shard: while it stays, no page changes but with time."""
        ...

    async def gc_page(
        self, group: GroupId, *, before: Stamp, after: BlockId, limit: int, deadline: float
    ) -> GcAnswer: ...

    async def ack_gc(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> int:
        """Rows removed."""
        ...

    async def repair_page(self, group: GroupId, *, after: BlockId, limit: int, deadline: float) -> BlockPageAnswer: ...

    async def block_page(
        self, group: GroupId, *, first: int, last: int, after: BlockId, limit: int, deadline: float
    ) -> BlockPageAnswer: ...

    async def find(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> BlockPageAnswer: ...

    async def update_block(
        self, group: GroupId, old: StoredBlock, new: StoredBlock, *, made: Stamp = NEVER, deadline: float
    ) -> None:
        """Raises NotFound meta.no_such_block (deleted meanwhile), Conflict meta.block_changed, meta.repair_too_old."""
        ...

    async def replace_block(self, group: GroupId, old: StoredBlock, new: StoredBlock, *, deadline: float) -> None:
        """`new` takes the place of `old`, which goes to the collector. Raises as `update_block`."""
        ...

    async def advance(
        self, group: GroupId, blocks: tuple[StoredBlock, ...], epoch: LayoutEpoch, *, deadline: float
    ) -> int:
        """Rows that name `epoch` from now on: those that did not change meanwhile."""
        ...

    async def counts(self, group: GroupId, *, deadline: float) -> ShardCounts: ...


class ClientCatalogue:
    """`BlockCatalogue` over the node's client."""

    def __init__(self, client: MetaClient) -> None:
        self._client = client

    def groups(self) -> tuple[GroupId, ...]:
        return tuple(group for group in self._client.shards() if self._client.leads(group))

    def position(self, group: GroupId) -> LogIndex:
        return self._client.position(group)

    async def gc_page(self, group: GroupId, *, before: Stamp, after: BlockId, limit: int, deadline: float) -> GcAnswer:
        return await self._client.read_group(group, GcPage(before=before, after=after, limit=limit), deadline=deadline)

    async def ack_gc(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> int:
        return (await self._client.shard(group, AckGc(blocks=blocks), deadline=deadline)).count

    async def repair_page(self, group: GroupId, *, after: BlockId, limit: int, deadline: float) -> BlockPageAnswer:
        return await self._client.read_group(group, RepairPage(after=after, limit=limit), deadline=deadline)

    async def block_page(
        self, group: GroupId, *, first: int, last: int, after: BlockId, limit: int, deadline: float
    ) -> BlockPageAnswer:
        query = BlockPage(first=first, last=last, after=after, limit=limit)
        return await self._client.read_group(group, query, deadline=deadline)

    async def find(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> BlockPageAnswer:
        return await self._client.read_group(group, FindBlocks(blocks=blocks), deadline=deadline)

    async def replace_block(self, group: GroupId, old: StoredBlock, new: StoredBlock, *, deadline: float) -> None:
        await self._client.shard(group, ReplaceBlock(old=old, new=new), deadline=deadline)

    async def update_block(
        self, group: GroupId, old: StoredBlock, new: StoredBlock, *, made: Stamp = NEVER, deadline: float
    ) -> None:
        await self._client.shard(group, UpdateBlock(old=old, new=new, made=made), deadline=deadline)

    async def advance(
        self, group: GroupId, blocks: tuple[StoredBlock, ...], epoch: LayoutEpoch, *, deadline: float
    ) -> int:
        command = AdvanceBlocks(blocks=blocks, layout_epoch=epoch)
        return (await self._client.shard(group, command, deadline=deadline)).count

    async def counts(self, group: GroupId, *, deadline: float) -> ShardCounts:
        return await self._client.counts(group, deadline=deadline)
