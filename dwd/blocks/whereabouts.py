"""What still lies on given devices, by the rows of all shards: a drain's progress, and the proof that it is done.

Counted by the shards' leaders where the rows are, so that asking costs one pass over the rows of those layouts that
name the devices, and next to nothing once every row names a layout without them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dwd.base.errors import Unavailable
from dwd.base.ids import DeviceId, GroupId, LayoutEpoch
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.reading import locations
from dwd.blocks.topology import Topology
from dwd.meta.core.query import Query
from dwd.meta.core.shard.queries import FROM_THE_START, CountPlaced, PlacedCounts, RepairPage
from dwd.meta.core.shard.rows import ShardCounts

PAGE = 1_000
NOWHERE = 0xFF

A = TypeVar("A")


class Shards(Protocol):
    """What is asked of metadata; `dwd.meta.client.MetaClient` is one."""

    def shards(self) -> tuple[GroupId, ...]: ...

    async def read_group(self, group: GroupId, query: Query[A], *, deadline: float) -> A: ...

    async def counts(self, group: GroupId, *, deadline: float) -> ShardCounts: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """`blocks` have a fragment on the devices; `bytes` are those fragments'."""

    blocks: int = 0
    bytes: int = 0

    def plus(self, blocks: int, size: int) -> Remaining:
        return Remaining(blocks=self.blocks + blocks, bytes=self.bytes + size)


async def remaining_on(
    meta: Shards, topology: Topology, devices: Collection[DeviceId], *, deadline: float
) -> Remaining:
    """Which live blocks the rows of all shards place on `devices`. Every count is a linearizable read; a block that
    moves between two of them is counted at its old place or not at all.

    Raises Unavailable, DeadlineExceeded (then nothing is known).
    """
    wanted = frozenset(devices)
    found = Remaining()
    for group in meta.shards():
        counts = await meta.counts(group, deadline=deadline)
        for use in counts.epochs:
            if use.blocks:
                found = await _placed(meta, group, topology, use.epoch, wanted, found, deadline)
        if counts.not_fully_redundant:
            found = await _loaned(meta, group, topology, wanted, found, deadline)
    return found


async def _placed(
    meta: Shards,
    group: GroupId,
    topology: Topology,
    epoch: LayoutEpoch,
    devices: frozenset[DeviceId],
    found: Remaining,
    deadline: float,
) -> Remaining:
    """Blocks that lie where their layout says."""
    layout = topology.layout_of(epoch)
    if layout is None:
        raise Unavailable("blocks.layout_unknown", f"layout {epoch} is not known here")
    slots = slots_of(layout, devices)
    if not slots:
        return found
    question = CountPlaced(epoch=epoch, partitions=layout.partitions, slots=slots)
    return _summed((await meta.read_group(group, question, deadline=deadline)), layout.width, found)


def _summed(answer: PlacedCounts, width: int, found: Remaining) -> Remaining:
    for count in answer.counts:
        scheme = parse_scheme(count.profile)
        if count.slot < scheme.fragments:
            fragments = len(range(count.slot, scheme.fragments, width))
            size = -(-count.bytes // scheme.data) * fragments
            found = found.plus(count.blocks if count.rank == 0 else 0, size)
    return found


async def _loaned(
    meta: Shards,
    group: GroupId,
    topology: Topology,
    devices: frozenset[DeviceId],
    found: Remaining,
    deadline: float,
) -> Remaining:
    """Blocks whose rows say more than their layout."""
    after, more = FROM_THE_START, True
    while more:
        page = await meta.read_group(group, RepairPage(after=after, limit=PAGE), deadline=deadline)
        for owned in page.blocks:
            row = owned.stored
            here = sum(device in devices for device in locations(topology, row).values())
            if here:
                found = found.plus(1, here * parse_scheme(row.profile).fragment_length(row.length))
            after = row.block
        more = page.more and bool(page.blocks)
    return found


def slots_of(layout: Layout, devices: Iterable[DeviceId]) -> tuple[bytes, ...]:
    """For `CountPlaced`: where in each partition's list the devices stand; as many ranks as a partition has of them."""
    wanted = frozenset(devices)
    numbers = {at for at, device in enumerate(layout.devices) if device.device in wanted}
    if not numbers:
        return ()
    width = layout.width
    lists = [
        [slot for slot in range(width) if layout.slots[partition * width + slot] in numbers]
        for partition in range(layout.partitions)
    ]
    ranks = max(map(len, lists))
    return tuple(bytes(row[rank] if rank < len(row) else NOWHERE for row in lists) for rank in range(ranks))
