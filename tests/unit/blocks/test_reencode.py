"""Falling back when devices are away, making good when they return, and storing anew under everybody's hands."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Busy, Conflict, DwError, InvariantViolation, NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import GroupId, NodeId
from dwd.base.policy import Policy
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.reencode import Anew, Reencoder
from dwd.blocks.store import ErasureBlockStore
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.jobs.kinds import LeaseLost
from dwd.meta.core.shard.rows import OwnedBlock
from tests.twins.memory_blocks import MemoryCluster
from tests.twins.memory_catalogue import MemoryCatalogue

OWNER = Owner(bucket="b", key="k")
GROUP = GroupId(1)
BIG = os.urandom(300_000)
SMALL = BIG[:5_000]
FALL_BACK = Policy(profile="rs-4-2", allow_fallback=True)


async def write(cluster: MemoryCluster, data: bytes, policy: Policy = FALL_BACK) -> StoredBlock:
    return await store(cluster).write(data, policy=policy, owner=OWNER, deadline=cluster.soon)


def store(cluster: MemoryCluster, node: int = 1) -> ErasureBlockStore:
    return cluster.stores[NodeId(node)]


async def read(cluster: MemoryCluster, row: StoredBlock, node: int = 1) -> bytes:
    views = await store(cluster, node).read(row, owner=OWNER, offset=0, length=row.length, deadline=cluster.soon)
    return b"".join(views)


def owned(row: StoredBlock) -> OwnedBlock:
    return OwnedBlock(stored=row, bucket=OWNER.bucket, key=OWNER.key)


async def upgrade(cluster: MemoryCluster, catalogue: MemoryCatalogue, row: StoredBlock) -> Anew | None:
    return await Reencoder(store(cluster)).upgrade(catalogue, GROUP, owned(row), deadline=cluster.soon)


@pytest.mark.parametrize(
    ("down", "data", "scheme", "wanted"),
    [
        ((6,), BIG, "rs-4-2", ""),
        ((5, 6), BIG, "rs-4-2", ""),
        ((4, 5, 6), BIG, "rs-4-2", ""),
        ((3, 4, 5, 6), BIG, "replica-2", "rs-4-2"),
        ((4, 5, 6), SMALL, "replica-3", ""),
        ((3, 4, 5, 6), SMALL, "replica-3", ""),
    ],
)
async def test_writes_fall_back_only_when_one_more_loss_would_not_be_survived(
    tmp_path: Path, down: tuple[int, ...], data: bytes, scheme: str, wanted: str
) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        for node in down:
            cluster.kill(NodeId(node))
        row = await write(cluster, data)
        assert (row.profile, row.wanted) == (scheme, wanted)
        assert await read(cluster, row) == data
        assert row.not_as_wanted == bool(wanted or row.handoffs)
        if wanted:
            with pytest.raises(Busy):
                await write(cluster, data, replace(FALL_BACK, allow_fallback=False))


async def test_writes_fall_back_when_the_cluster_never_had_the_devices(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=3) as cluster:
        row = await write(cluster, BIG)
        assert (row.profile, row.wanted) == ("replica-3", "rs-4-2")
        assert store(cluster).effective(FALL_BACK, len(BIG)) == (parse_scheme("replica-3"), "rs-4-2")


async def test_a_write_is_refused_when_not_even_two_copies_can_be_kept_apart(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        for node in range(2, 7):
            cluster.kill(NodeId(node))
        with pytest.raises(Busy):
            await write(cluster, BIG)


async def test_blocks_are_stored_as_wanted_when_the_devices_return(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        catalogue = MemoryCatalogue()
        for node in (3, 4, 5, 6):
            cluster.kill(NodeId(node))
        row = await write(cluster, BIG)
        catalogue.add(row)
        assert await upgrade(cluster, catalogue, row) is None, "not before every fragment has a device of its own"
        for node in (3, 4, 5):
            cluster.revive(NodeId(node))
        assert await upgrade(cluster, catalogue, row) is None
        cluster.revive(NodeId(6))
        assert await upgrade(cluster, catalogue, row) is Anew.STORED
        (new,) = catalogue.rows.values()
        assert (new.profile, new.wanted, new.not_as_wanted) == ("rs-4-2", "", False)
        assert new.block != row.block
        assert await read(cluster, new) == await read(cluster, row) == BIG, "readers of the old row are not cut off"
        assert list(catalogue.gc.values()) == [row]
        assert await upgrade(cluster, catalogue, new) is None


async def test_nothing_is_written_when_the_block_is_what_it_should_be_already(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        catalogue = MemoryCatalogue()
        row = replace(await write(cluster, BIG), wanted="rs-4-2")
        catalogue.add(row)
        assert await upgrade(cluster, catalogue, row) is Anew.STORED
        assert catalogue.rows == {row.block: replace(row, wanted="")}


async def fragments_of(cluster: MemoryCluster, *blocks: StoredBlock) -> int:
    """Of these blocks, on all devices."""
    found = 0
    for service in cluster.wire.services.values():
        for device in service.devices():
            for block in blocks:
                found += sum(device.volumes.place_of(FragmentKey(block.block, i)) is not None for i in range(26))
    return found


@pytest.mark.parametrize(
    ("error", "outcome", "kept"),
    [
        (NotFound("meta.no_such_block", "deleted"), Anew.GONE, False),
        (Conflict("meta.block_changed", "repaired"), Anew.GONE, False),
        (LeaseLost("job.lease_lost", "another runs it"), None, True),
        (InvariantViolation("a bug"), None, True),
        (ValueError("a bug"), None, True),
        (Unavailable("raft.no_leader", "later"), None, False),
        (OutcomeUnknown("raft.outcome_unknown", "perhaps"), None, True),
        (asyncio.CancelledError(), None, True),
    ],
)
async def test_what_was_written_is_given_up_when_the_row_certainly_does_not_name_it(
    tmp_path: Path, error: BaseException, outcome: Anew | None, kept: bool
) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        row = await write(cluster, BIG)
        made: list[StoredBlock] = []

        async def commit(old: StoredBlock, new: StoredBlock) -> None:
            assert old == row
            made.append(new)
            raise error

        anew = Reencoder(store(cluster)).reencode(owned(row), parse_scheme("replica-3"), commit, deadline=cluster.soon)
        if outcome is None:
            with pytest.raises(type(error)):
                await anew
        else:
            assert await anew is outcome
        assert await fragments_of(cluster, *made) == 3
        assert len(store(cluster).leftovers) == (0 if kept else 3)
        assert await read(cluster, row) == BIG


async def test_a_block_is_not_stored_anew_when_it_cannot_be_read_right(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        row = await write(cluster, BIG)

        async def commit(old: StoredBlock, new: StoredBlock) -> None:
            raise AssertionError("nothing to commit")

        forged = owned(replace(row, crc32c=row.crc32c ^ 1))
        with pytest.raises(DwError):
            await Reencoder(store(cluster)).reencode(forged, parse_scheme("replica-3"), commit, deadline=cluster.soon)


async def test_packing_and_length_stay_with_the_bytes_when_they_are_stored_anew(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        catalogue = MemoryCatalogue()
        row = replace(await write(cluster, BIG), plain=1_000_000, packing=3, wanted="rs-2-1")
        catalogue.add(row)
        assert await upgrade(cluster, catalogue, row) is Anew.STORED
        (new,) = catalogue.rows.values()
        same = replace(row, block=new.block, profile="rs-2-1", wanted="", layout_epoch=new.layout_epoch)
        assert new == same
        assert set(locations(store(cluster).reader.topology, new)) == {0, 1, 2}
