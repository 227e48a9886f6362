"""Asks the shards whether they know blocks: what the orphan sweep must hear "no" from twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dwd.base.ids import BlockId, GroupId
from dwd.blocks.ports import Owner
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.client import MetaClient


class MetaBlockOwner:
    """Implements `dwd.blocks.upkeep.BlockOwner`."""

    def __init__(self, meta: MetaClient, catalogue: BlockCatalogue) -> None:
        self._meta = meta
        self._catalogue = catalogue

    async def exists(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> frozenset[BlockId]:
        """Those of `blocks` that the shard which now owns their key names. Raises when a shard does not answer."""
        by_group: dict[GroupId, list[BlockId]] = defaultdict(list)
        for block, owner in blocks:
            by_group[self._meta.view.group_of(owner.bucket, owner.key)].append(block)
        found: set[BlockId] = set()
        for group, wanted in by_group.items():
            answer = await self._catalogue.find(group, tuple(wanted), deadline=deadline)
            found.update(owned.stored.block for owned in answer.blocks)
        return frozenset(found)
