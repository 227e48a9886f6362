"""Asks the shards which rows blocks have now: what the orphan sweep must hear "no" from twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from dwd.base.blocks import StoredBlock
from dwd.base.ids import BlockId, GroupId
from dwd.blocks.ports import Owner
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.client import MetaClient


class MetaBlockOwner:
    """Implements `dwd.blocks.orphans.BlockOwner`."""

    def __init__(self, meta: MetaClient, catalogue: BlockCatalogue) -> None:
        self._meta = meta
        self._catalogue = catalogue

    async def rows(self, blocks: Sequence[tuple[BlockId, Owner]], *, deadline: float) -> Mapping[BlockId, StoredBlock]:
        """Of the shards which now own the keys. Raises when one does not answer, or this copy of control, which says
        who owns what, is not fresh.
        """
        self._meta.view.require_fresh()
        by_group: dict[GroupId, list[BlockId]] = defaultdict(list)
        for block, owner in blocks:
            by_group[self._meta.view.group_of(owner.bucket, owner.key)].append(block)
        found: dict[BlockId, StoredBlock] = {}
        for group, wanted in by_group.items():
            answer = await self._catalogue.find(group, tuple(wanted), deadline=deadline)
            found.update({owned.stored.block: owned.stored for owned in answer.blocks})
        return found
