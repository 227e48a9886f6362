"""Whatever happens to the node that stores a bucket anew: it ends once, everything is readable, in the new profile."""

from __future__ import annotations

from functools import lru_cache

from dwd.base.blocks import StoredBlock
from dwd.base.errors import Corrupt
from dwd.base.ids import CONTROL_GROUP, BlockId, DeviceId, GroupId, LayoutEpoch, NodeId, stamp_of
from dwd.base.policy import Policy
from dwd.blocks.core.profiles import Profile, parse_profile
from dwd.blocks.profile_job import ProfileKind
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.journal.checksum import crc32c
from dwd.meta.core.control.commands import CreateBucket, CreateUser
from dwd.meta.core.control.job_rows import JobRow
from dwd.meta.core.shard.answer import answer
from dwd.meta.core.shard.commands import CopyInsideShard, PutObject
from dwd.meta.core.shard.queries import BlockPage, GetObject
from tests.job_harness.harness import Scenario, survive
from tests.twins.job_cluster import JobCluster, JobNode
from tests.twins.memory_blocks import MemoryTopology, NodeTopology

SHARDS = (GroupId(1), GroupId(2))
OLD, NEW = "rs-4-2", "rs-2-1"


class Shelf:
    """What the job asks of the block store, over bytes that all nodes of a cluster share."""

    def __init__(self, node: JobNode) -> None:
        self.node, self.reader = node, self
        self.held: dict[BlockId, bytes] = node.cluster.__dict__.setdefault("shelf", {})

    async def read(self, block: StoredBlock, **_: object) -> list[memoryview]:
        await self.node._travel()
        if block.block not in self.held:
            raise Corrupt("test.gone", "its fragments are gone")
        return [memoryview(self.held[block.block])]

    async def store_as(self, data: bytes, scheme: Profile, **_: object) -> StoredBlock:
        await self.node._travel()
        made = stored(self.node.cluster, bytes(data), scheme.scheme)
        await self.node._travel()
        return made

    def discard(self, blocks: tuple[StoredBlock, ...]) -> None:
        for block in blocks:
            del self.held[block.block]

    def effective(self, policy: Policy, _length: int) -> tuple[Profile, str]:
        return parse_profile(policy.profile), ""


def stored(cluster: JobCluster, data: bytes, scheme: str) -> StoredBlock:
    block = BlockId(stamp_of(cluster.clock.unix_ms()).to_bytes(8) + cluster.rng.token_bytes(8))
    shelf: dict[BlockId, bytes] = cluster.__dict__.setdefault("shelf", {})
    shelf[block] = data
    return StoredBlock(block=block, profile=scheme, length=len(data), crc32c=crc32c(data), layout_epoch=LayoutEpoch(1))


@lru_cache(maxsize=1)
def six() -> MemoryTopology:
    topology = MemoryTopology()
    for number in range(1, 7):
        topology.views[DeviceId(number)] = DeviceView(
            device=DeviceId(number), node=NodeId(number), zone="", rack="", weight=100, health=DeviceHealth.UP
        )
    topology.relayout()
    return topology


def kinds(node: JobNode) -> tuple[ProfileKind, ...]:
    kind = ProfileKind(
        meta=node,  # type: ignore[arg-type]
        store=Shelf(node),  # type: ignore[arg-type]
        topology=NodeTopology(six(), node.id),
        clock=node.clock,
        bytes_per_second=1 << 40,
    )
    return (kind,)


def furnish(cluster: JobCluster) -> None:
    """Objects in both shards, one with a copy."""
    client = NodeId(0)
    cluster.apply(client, CONTROL_GROUP, CreateUser(name="u"), None)
    epoch = cluster.apply(client, CONTROL_GROUP, CreateBucket(name="b", owner="u", profile=OLD), None).count
    for shard in SHARDS:
        blocks = tuple(stored(cluster, f"{shard}{n}".encode(), OLD) for n in range(shard))
        size = sum(block.length for block in blocks)
        put = PutObject(bucket="b", key="a", bucket_epoch=epoch, size=size, etag="e", blocks=blocks)
        cluster.apply(client, shard, put, None)
    copy = CopyInsideShard(
        bucket="b", key="copy", bucket_epoch=epoch, source_bucket="b", source_key="a", source_etag="e"
    )
    cluster.apply(client, SHARDS[1], copy, None)


def check(cluster: JobCluster, row: JobRow) -> None:
    shelf: dict[BlockId, bytes] = cluster.__dict__["shelf"]
    for shard in SHARDS:
        reader = cluster.machines[shard].tx
        rows = answer(reader, BlockPage(first=0, last=0xFFFF)).blocks  # type: ignore[attr-defined]
        assert {owned.stored.profile for owned in rows} == {NEW}
        for key in ("a", "copy") if shard == SHARDS[1] else ("a",):
            blocks = answer(reader, GetObject(bucket="b", key=key)).blocks  # type: ignore[attr-defined]
            found = b"".join(shelf[placed.owned.stored.block] for placed in blocks)
            assert found == b"".join(f"{shard}{n}".encode() for n in range(shard)), "byte for byte"
    assert row.done == row.total == 3


def test_bucket_is_stored_anew_once_when_its_runner_dies_or_sleeps_past_its_lease_at_any_moment() -> None:
    scenario = Scenario(
        kinds=kinds, kind=ProfileKind.name, arguments={"bucket": "b", "profile": NEW}, prepare=furnish, check=check
    )
    assert survive(scenario) > 40
