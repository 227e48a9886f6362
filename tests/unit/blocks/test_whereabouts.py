"""What lies on devices is counted from the rows of all shards, as if every row had been looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random  # noqa: TID251 - seeded, in a test
from typing import Any

import pytest

from dwd.base.blocks import Handoff, StoredBlock
from dwd.base.ids import BlockId, DeviceId, GroupId, LayoutEpoch, NodeId, stamp_of
from dwd.blocks.core.layout import LayoutDevice
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.reading import locations
from dwd.blocks.whereabouts import Remaining, remaining_on
from dwd.meta.core.shard.commands import AdvanceBlocks, PutObject
from dwd.meta.core.shard.queries import GetCounts
from tests.twins.memory_blocks import MemoryTopology, NodeTopology
from tests.twins.meta_group import EPOCH_MS, Group

SCHEMES = ("rs-4-2", "replica-3", "none", "rs-6-3")


class OneShard:
    def __init__(self, group: Group) -> None:
        self.group = group

    def shards(self) -> tuple[GroupId, ...]:
        return (GroupId(1),)

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        return self.group.ask(query)

    async def counts(self, group: GroupId, *, deadline: float) -> Any:
        return self.group.ask(GetCounts())


@pytest.fixture
def topology() -> NodeTopology:
    """Two layouts: over devices 1 to 5, and 2 to 6."""
    shared = MemoryTopology()
    for epoch, numbers in ((1, range(1, 6)), (2, range(2, 7))):
        devices = [LayoutDevice(device=DeviceId(n), node=NodeId(n), weight=10) for n in numbers]
        previous = shared.layouts[-1] if shared.layouts else None
        shared.layouts.append(plan_layout(devices, epoch=LayoutEpoch(epoch), previous=previous, partitions=64))
    return NodeTopology(shared, NodeId(1))


def rows(count: int) -> list[StoredBlock]:
    """Of all schemes, some with loans and gaps."""
    random, made = Random(5), []
    for number in range(count):
        stored = StoredBlock(
            block=BlockId(stamp_of(EPOCH_MS).to_bytes(8) + random.randbytes(6) + number.to_bytes(2)),
            profile=random.choice(SCHEMES), length=random.randrange(1, 1 << 20), crc32c=1, layout_epoch=LayoutEpoch(1),
        )  # fmt: skip
        if number % 5 == 0:
            stored = replace(stored, handoffs=(Handoff(index=0, device=DeviceId(random.randrange(1, 7))),))
        if number % 7 == 0 and stored.profile != "none":
            stored = replace(stored, missing=(1,))
        made.append(stored)
    return made


def by_hand(topology: NodeTopology, stored: list[StoredBlock], devices: set[DeviceId]) -> Remaining:
    found = Remaining()
    for row in stored:
        here = sum(device in devices for device in locations(topology, row).values())
        if here:
            scheme = parse_scheme(row.profile)
            found = found.plus(1, here * scheme.fragment_length(row.length))
    return found


async def test_what_remains_is_exact_when_rows_have_loans_and_gaps(tmp_path: Path, topology: NodeTopology) -> None:
    shard = Group(tmp_path)
    stored = rows(150)
    for at in range(0, 150, 50):
        piece = tuple(stored[at : at + 50])
        shard.send(
            PutObject(bucket="b", key=f"k{at}", bucket_epoch=1, size=sum(b.length for b in piece), etag="e",
                      blocks=piece)
        )  # fmt: skip
    for devices in ({DeviceId(1)}, {DeviceId(2), DeviceId(4)}, {DeviceId(6)}, {DeviceId(99)}, set()):
        found = await remaining_on(OneShard(shard), topology, devices, deadline=1e9)
        expected = by_hand(topology, stored, devices)
        assert found.blocks == expected.blocks
        assert abs(found.bytes - expected.bytes) <= 150 * 6  # each scheme's bytes are rounded up once, not each block's


async def test_nothing_remains_when_all_rows_name_a_layout_without_the_device(
    tmp_path: Path, topology: NodeTopology
) -> None:
    shard = Group(tmp_path)
    whole = [row for row in rows(40) if not row.needs_repair]
    shard.send(
        PutObject(bucket="b", key="k", bucket_epoch=1, size=sum(b.length for b in whole), etag="e", blocks=tuple(whole))
    )
    gone = {DeviceId(1)}
    assert (await remaining_on(OneShard(shard), topology, gone, deadline=1e9)).blocks > 0
    moved = shard.send(AdvanceBlocks(blocks=tuple(whole), layout_epoch=LayoutEpoch(2)))
    assert moved.count == len(whole)
    assert await remaining_on(OneShard(shard), topology, gone, deadline=1e9) == Remaining()
    assert shard.send(AdvanceBlocks(blocks=tuple(whole), layout_epoch=LayoutEpoch(2))).count == 0
