"""Storing a block anew under another profile, while it is read, copied, overwritten and deleted.

The new fragments get a block id of their own, with the stamp of now: fragments of two profiles never share an id, on no
device and at no time, and the rules for what the orphan sweep may take are those of any new block. Only when all of
them are durable the row changes, by compare-and-swap; from then on whoever names the old block finds the new one
(dwd.meta.core.shard.blocks), and the old one's fragments are the collector's. What metadata certainly did not take is
given up; what it may have taken is left to the orphan sweep.

Readers that looked up the old row read its fragments until the collector's delay is over, and then look again
(dwd.objects.read).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Conflict, Corrupt, DwError, InvariantViolation, NotFound, OutcomeUnknown
from dwd.base.ids import GroupId
from dwd.blocks.core.profiles import Profile, parse_scheme
from dwd.blocks.ports import Owner
from dwd.blocks.store import ErasureBlockStore
from dwd.jobs.kinds import LeaseLost
from dwd.meta.catalogue import BlockCatalogue
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.observability import metrics

Commit = Callable[[StoredBlock, StoredBlock], Awaitable[None]]
"""Has metadata put the second block in the first one's place, as `BlockCatalogue.replace_block`."""

_REENCODED = metrics.counter("dwd.blocks.reencoded", "Blocks stored anew under another profile", "{block}")


class Anew(Enum):
    STORED = "stored"
    GONE = "gone"
    """The block was deleted or changed meanwhile: nothing was done."""


class Reencoder:
    """Stateless; any node may do it for any block."""

    def __init__(self, store: ErasureBlockStore) -> None:
        self._store = store

    async def reencode(
        self, owned: OwnedBlock, scheme: Profile, commit: Commit, *, wanted: str = "", deadline: float
    ) -> Anew:
        """Store the block under `scheme`, its row saying that it should be `wanted`. Raises what reading and writing a
        block raise, LeaseLost, and what `commit` raises but for a block that is not there or not the same any more.
        """
        old, owner = owned.stored, Owner(bucket=owned.bucket, key=owned.key)
        views = await self._store.reader.read(old, owner=owner, offset=0, length=old.length, deadline=deadline)
        stored = await self._store.store_as(b"".join(views), scheme, owner=owner, deadline=deadline)
        if (stored.length, stored.crc32c) != (old.length, old.crc32c):
            self._store.discard((stored,))
            raise Corrupt("blocks.block_checksum", f"block {old.block.hex()} changed while it was stored anew")
        new = replace(
            old,
            block=stored.block,
            profile=stored.profile,
            layout_epoch=stored.layout_epoch,
            handoffs=stored.handoffs,
            missing=stored.missing,
            wanted=wanted,
        )
        try:
            await commit(old, new)
        except (OutcomeUnknown, LeaseLost, InvariantViolation):
            raise  # the row may name the new block: if it does not, the orphan sweep finds its fragments
        except DwError as error:
            self._store.discard((new,))
            if isinstance(error, (NotFound, Conflict)):
                return Anew.GONE
            raise
        _REENCODED.add(1, scheme=new.profile)
        return Anew.STORED

    async def upgrade(
        self, catalogue: BlockCatalogue, group: GroupId, owned: OwnedBlock, *, deadline: float
    ) -> Anew | None:
        """Store a block as its row says it should be, if there are devices for that now; None: there are not. Raises as
        `reencode`.
        """
        old = owned.stored
        if not old.wanted:
            return None
        if old.wanted == old.profile:
            return await _unless_gone(catalogue.update_block(group, old, replace(old, wanted=""), deadline=deadline))
        scheme = parse_scheme(old.wanted)
        if not self._store.holds(scheme):
            return None
        return await self.reencode(
            owned, scheme, lambda a, b: catalogue.replace_block(group, a, b, deadline=deadline), deadline=deadline
        )


async def _unless_gone(change: Awaitable[None]) -> Anew:
    try:
        await change
    except (NotFound, Conflict):
        return Anew.GONE
    return Anew.STORED
