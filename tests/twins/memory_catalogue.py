"""Block rows in memory: the twin of the catalogue that metadata gives to repair and collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dwd.base.blocks import StoredBlock, placement_of
from dwd.base.errors import Conflict, NotFound
from dwd.base.ids import BlockId, GroupId, LayoutEpoch, LogIndex, Stamp
from dwd.blocks.ports import Owner
from dwd.meta.core.shard.commands import NEVER
from dwd.meta.core.shard.queries import BlockPageAnswer, GcAnswer
from dwd.meta.core.shard.rows import EpochUse, GcRow, OwnedBlock, ShardCounts


class MemoryCatalogue:
    def __init__(self) -> None:
        self.rows: dict[BlockId, StoredBlock] = {}
        self.gc: dict[BlockId, StoredBlock] = {}
        self._position = 0

    def add(self, *blocks: StoredBlock) -> None:
        self.rows.update({b.block: b for b in blocks})

    def give_up(self, block: BlockId) -> None:
        self.gc[block] = self.rows.pop(block)

    def position(self, group: GroupId) -> LogIndex:
        """A new one each time: whoever asks must look."""
        self._position += 1
        return LogIndex(self._position)

    def groups(self) -> tuple[GroupId, ...]:
        return (GroupId(1),)

    async def gc_page(self, group: GroupId, *, before: Stamp, after: BlockId, limit: int, deadline: float) -> GcAnswer:
        found = sorted(b for b in self.gc if b > after)
        rows = tuple(GcRow(stored=self.gc[b], since=Stamp(0)) for b in found[:limit])
        return GcAnswer(rows=rows, more=len(found) > limit)

    async def ack_gc(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> int:
        return sum(self.gc.pop(block, None) is not None for block in blocks)

    async def repair_page(self, group: GroupId, *, after: BlockId, limit: int, deadline: float) -> BlockPageAnswer:
        return self._page(sorted(b for b in self.rows if b > after and self.rows[b].not_as_wanted), limit)

    async def block_page(
        self, group: GroupId, *, first: int, last: int, after: BlockId, limit: int, deadline: float
    ) -> BlockPageAnswer:
        start = (placement_of(after), after) if after else (-1, after)
        keys = sorted((placement_of(b), b) for b in self.rows if first <= placement_of(b) <= last)
        return self._page([b for bits, b in keys if (bits, b) > start], limit)

    async def find(self, group: GroupId, blocks: tuple[BlockId, ...], *, deadline: float) -> BlockPageAnswer:
        return self._page([b for b in blocks if b in self.rows], len(blocks))

    async def update_block(
        self, group: GroupId, old: StoredBlock, new: StoredBlock, *, made: Stamp = NEVER, deadline: float
    ) -> None:
        if old.block not in self.rows:
            raise NotFound("meta.no_such_block", "deleted")
        if self.rows[old.block] != old:
            raise Conflict("meta.block_changed", "changed")
        self.rows[old.block] = new

    async def replace_block(self, group: GroupId, old: StoredBlock, new: StoredBlock, *, deadline: float) -> None:
        if old.block not in self.rows:
            raise NotFound("meta.no_such_block", "deleted")
        if self.rows[old.block] != old:
            raise Conflict("meta.block_changed", "changed")
        self.give_up(old.block)
        self.rows[new.block] = new

    async def advance(
        self, group: GroupId, blocks: tuple[StoredBlock, ...], epoch: LayoutEpoch, *, deadline: float
    ) -> int:
        same = [b for b in blocks if self.rows.get(b.block) == b and not b.needs_repair]
        self.rows.update({b.block: replace(b, layout_epoch=epoch) for b in same})
        return len(same)

    async def counts(self, group: GroupId, *, deadline: float) -> ShardCounts:
        uses = Counter(row.layout_epoch for row in (*self.rows.values(), *self.gc.values()))
        return ShardCounts(
            objects=0, bytes=0, blocks=len(self.rows), gc_waiting=len(self.gc), drains_waiting=0,
            not_fully_redundant=sum(row.needs_repair for row in self.rows.values()),
            epochs=tuple(EpochUse(epoch=epoch, blocks=count) for epoch, count in sorted(uses.items())),
        )  # fmt: skip

    def shards(self) -> tuple[GroupId, ...]:
        return self.groups()

    async def row(self, block: BlockId, owner: Owner, *, deadline: float) -> StoredBlock | None:
        return self.rows.get(block)

    async def rows_of(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> dict[BlockId, StoredBlock]:
        return {block: self.rows[block] for block, _ in blocks if block in self.rows}

    def _page(self, found: Sequence[BlockId], limit: int) -> BlockPageAnswer:
        blocks = tuple(OwnedBlock(stored=self.rows[b], bucket="b", key="k") for b in found[:limit])
        return BlockPageAnswer(blocks=blocks, more=len(found) > limit)


class CatalogueOwner:
    """`BlockOwner` over the rows in memory."""

    def __init__(self, catalogue: MemoryCatalogue) -> None:
        self._catalogue = catalogue

    async def rows(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> dict[BlockId, StoredBlock]:
        return await self._catalogue.rows_of(blocks, deadline=deadline)
