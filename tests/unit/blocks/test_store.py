"""Six nodes in one process: what is written is read back whatever two of them do."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import Busy, Corrupt, DwError, NoSpace, Unavailable
from dwd.base.ids import LayoutEpoch, NodeId
from dwd.base.policy import Policy
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.device import Device
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.volumes.fragment import FragmentKey
from tests.twins.memory_blocks import MemoryCluster

OWNER = Owner(bucket="b", key="a/key")
BIG = os.urandom(600_001)


async def put(cluster: MemoryCluster, data: bytes, profile: str = "rs-4-2", node: int = 1):
    return await cluster.stores[NodeId(node)].write(
        data, policy=Policy(profile=profile), owner=OWNER, deadline=cluster.soon
    )


async def get(cluster: MemoryCluster, block, offset: int = 0, length: int = 1 << 23, node: int = 1) -> bytes:
    views = await cluster.stores[NodeId(node)].read(
        block, owner=OWNER, offset=offset, length=length, deadline=cluster.soon
    )
    return b"".join(views)


def holder(cluster: MemoryCluster, block, index: int) -> Device:
    where = locations(cluster.stores[NodeId(1)].reader.topology, block)
    return cluster.device(where[index])


def flip(device: Device, block, index: int, at: int) -> None:
    """Flip a byte of a fragment on disk."""
    place = device.volumes.place_of(FragmentKey(block.block, index))
    assert place is not None
    path = device.volumes.policy.path(place.segment)
    with path.open("r+b") as file:
        file.seek(place.offset + place.head + at)
        byte = file.read(1)
        file.seek(place.offset + place.head + at)
        file.write(bytes((byte[0] ^ 0x40,)))


@pytest.mark.parametrize(
    "profile", ["none", "replica-2", "replica-3", "rs-2-1", "rs-4-2", "raid6-2", "raidz3-2", "standard", "auto", ""]
)
async def test_blocks_come_back_when_written_under_any_profile(tmp_path: Path, profile: str) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        for size in (1, 3, 4, 5, 65_535, 65_537, 131_071, 131_072, 600_001):
            block = await put(cluster, BIG[:size], profile)
            assert not block.needs_repair
            assert await get(cluster, block) == BIG[:size]
            assert await get(cluster, block, size // 3, size // 2) == BIG[size // 3 :][: size // 2]


async def test_small_blocks_become_copies_when_the_profile_is_reed_solomon(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        assert (await put(cluster, BIG[:131_071])).profile == "replica-3"
        assert (await put(cluster, BIG[:131_072])).profile == "rs-4-2"


async def test_every_pair_of_nodes_may_die_when_blocks_are_read(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        blocks = [await put(cluster, BIG), await put(cluster, BIG[:5_000])]
        for first in range(1, 7):
            for second in range(first):
                for node in {first, second} - {0}:
                    cluster.kill(NodeId(node), noticed=bool(first % 2))
                reader = next(n for n in range(1, 7) if n not in {first, second})
                for block in blocks:
                    assert await get(cluster, block, node=reader) == BIG[: block.length]
                    assert await get(cluster, block, 1_000, 3_000, node=reader) == BIG[1_000:4_000]
                for node in {first, second} - {0}:
                    cluster.revive(NodeId(node))


async def test_ranges_over_several_fragments_come_back_when_any_two_are_gone(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        block = await put(cluster, BIG)
        size = parse_scheme(block.profile).fragment_length(block.length)
        starts = [size - 10, 2 * size - 70_000, 0, 3 * size - 5]
        for first in range(6):
            for second in range(first):
                gone = [holder(cluster, block, index) for index in (first, second)]
                for device in gone:
                    cluster.wire.dead.add(cluster.topology.views[device.id].node)
                reader = next(n for n in range(1, 7) if n not in cluster.wire.dead)
                for start in starts:
                    assert await get(cluster, block, start, size + 20, node=reader) == BIG[start : start + size + 20]
                cluster.wire.dead.clear()


@pytest.mark.parametrize("noticed", [True, False])
async def test_writes_go_elsewhere_and_say_so_when_two_nodes_are_dead(tmp_path: Path, noticed: bool) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        cluster.kill(NodeId(5), noticed=noticed)
        cluster.kill(NodeId(6), noticed=noticed)
        block = await put(cluster, BIG)
        assert len(block.handoffs) == 2
        nodes = [
            cluster.topology.views[d].node for d in locations(cluster.stores[NodeId(1)].reader.topology, block).values()
        ]
        assert not {5, 6} & set(nodes)
        assert max(nodes.count(n) for n in nodes) <= 2
        for node in range(1, 5):
            cluster.kill(NodeId(node), noticed=False)
            assert await get(cluster, block, node=node % 4 + 1) == BIG
            cluster.revive(NodeId(node))


async def test_writes_are_refused_when_one_more_loss_would_not_be_survived(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        for node in (3, 4, 5, 6):
            cluster.kill(NodeId(node))
        with pytest.raises(Busy):
            await put(cluster, BIG)


async def test_a_write_goes_on_when_a_node_hangs(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        cluster.wire.stuck[NodeId(4)] = asyncio.Event()
        block = await put(cluster, BIG)
        assert len(block.handoffs) == 1
        assert await get(cluster, block) == BIG


async def test_reads_answer_right_and_report_when_any_page_is_damaged(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        store = cluster.stores[NodeId(1)]
        block = await put(cluster, BIG)
        length = parse_scheme(block.profile).fragment_length(block.length)
        for index in range(2):
            for page in range(0, length, 65_536):
                flip(holder(cluster, block, index), block, index, page)
        assert await get(cluster, block) == BIG
        assert await get(cluster, block, 10, 20) == BIG[10:30]
        reported = {index for report in store.reports.take(10) for index in report.indexes}
        assert reported == {0, 1}


async def test_the_read_fails_typed_when_more_is_damaged_than_survived(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        block = await put(cluster, BIG)
        for index in range(3):
            flip(holder(cluster, block, index), block, index, 0)
        with pytest.raises((Corrupt, Unavailable)):
            await get(cluster, block)


async def test_stale_fragments_are_never_used_when_the_row_tells_another_story(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        block = await put(cluster, BIG)
        for forged in (replace(block, crc32c=block.crc32c ^ 1), replace(block, length=block.length - 1)):
            for offset, length in ((0, 1 << 23), (10, 20)):
                with pytest.raises(DwError):
                    await get(cluster, forged, offset, length)


async def test_writes_avoid_a_device_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        before = await put(cluster, BIG)
        full = holder(cluster, before, 0)

        def little(path: Path) -> tuple[int, int]:
            return (4, 100) if path == full.path else (50, 100)

        monkeypatch.setattr(type(cluster.files), "free_bytes", staticmethod(little))
        for device in (holder(cluster, before, i) for i in range(6)):
            device._looked_at = float("-inf")
        block = await put(cluster, BIG)
        assert full.id not in locations(cluster.stores[NodeId(1)].reader.topology, block).values()
        assert await get(cluster, before) == BIG
        await full.delete([FragmentKey(before.block, 0)])

        monkeypatch.setattr(type(cluster.files), "free_bytes", staticmethod(lambda path: (4, 100)))
        for device in (holder(cluster, before, i) for i in range(6)):
            device._looked_at = float("-inf")
        with pytest.raises(NoSpace):
            await put(cluster, BIG)


async def test_nothing_stays_under_way_when_the_caller_goes_away(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        cluster.wire.stuck[NodeId(4)] = asyncio.Event()
        cluster.wire.stuck[NodeId(5)] = asyncio.Event()
        cluster.wire.stuck[NodeId(6)] = asyncio.Event()
        cluster.wire.stuck[NodeId(3)] = asyncio.Event()
        writing = asyncio.ensure_future(put(cluster, BIG))  # noqa: TID251
        while cluster.wire.calls < 5:  # noqa: ASYNC110
            await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        store = cluster.stores[NodeId(1)]
        assert len(store.leftovers) == 6
        assert not any(store.latencies.inflight(device) for device in cluster.topology.views)


async def test_giving_up_goes_on_when_the_layout_of_a_block_is_not_known_any_more(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        block = await put(cluster, BIG)
        store = cluster.stores[NodeId(1)]
        store.discard([replace(block, layout_epoch=LayoutEpoch(99)), block])
        assert len(store.leftovers) == 6
