"""The job cluster.verify: it counts every fragment, hands on what is bad or missing, and goes on where it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dwd.base.errors import InvalidArgument
from dwd.base.ids import GroupId, NodeId
from dwd.base.policy import Policy
from dwd.blocks.ports import Owner
from dwd.blocks.recount import Recount
from dwd.blocks.reports import Reports
from dwd.blocks.verify_job import VerifyKind
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.meta.core.shard.queries import BlockPage, GetCounts
from dwd.meta.core.shard.rows import ShardCounts
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.memory_catalogue import MemoryCatalogue
from tests.twins.solo_job import SoloJob, carry_out

HERE = NodeId(1)


class Shards:
    """Two of them; the second is empty. Pages are cut to `limit`."""

    def __init__(self, catalogue: MemoryCatalogue) -> None:
        self.catalogue = catalogue
        self.limit = 1
        self.asked: list[tuple[int, bytes]] = []

    def shards(self) -> tuple[GroupId, ...]:
        return (GroupId(1), GroupId(2))

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        if isinstance(query, GetCounts):
            blocks = len(self.catalogue.rows) if group == 1 else 0
            return ShardCounts(objects=0, bytes=0, blocks=blocks, not_fully_redundant=0, gc_waiting=0, drains_waiting=0)
        assert isinstance(query, BlockPage)
        self.asked.append((int(group), query.after))
        where = self.catalogue if group == 1 else MemoryCatalogue()
        return await where.block_page(
            group, first=query.first, last=query.last, after=query.after, limit=self.limit, deadline=deadline
        )


class Stored:
    """Three blocks on a cluster in memory, and the kind that counts them."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.topology = NodeTopology(cluster.topology, HERE)
        self.catalogue, self.found = MemoryCatalogue(), Reports()
        self.shards = Shards(self.catalogue)
        meta: Any = self.shards
        recount = Recount(topology=self.topology, fragments=cluster.router(HERE), clock=cluster.clock)
        self.kind = VerifyKind(meta=meta, recount=recount, found=self.found, clock=cluster.clock)

    async def store(self) -> Any:
        block = await self.cluster.stores[HERE].write(
            bytes(300_000),
            policy=Policy(profile="rs-4-2"),
            owner=Owner(bucket="b", key="k"),
            deadline=self.cluster.soon,
        )
        self.catalogue.add(block)
        return block

    async def count(self, *, pages: bool) -> tuple[dict[str, int], list[tuple[int, ...]]]:
        """What the job came to, and the fragments it handed to repair."""
        job = await carry_out(self.kind, {"pages": "yes" if pages else "no"})
        return json.loads(job.result), [tuple(sorted(report.indexes)) for report in self.found.take(10)]


async def test_verify_hands_bad_and_missing_fragments_to_repair(tmp_path: Any) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        stored = Stored(cluster)
        block = await stored.store()
        places = cluster.topology.layouts[-1].places(block.block, 6)
        counts, handed = await stored.count(pages=True)
        assert (counts["fragments_found"], counts["fragments_expected"], handed) == (6, 6, [])
        await cluster.device(places[0]).delete([FragmentKey(block.block, 0)])
        device = cluster.device(places[1])
        place = device.volumes.place_of(FragmentKey(block.block, 1))
        assert place is not None
        with device.volumes.policy.path(place.segment).open("r+b") as file:
            file.seek(place.offset + place.head + 100)
            file.write(b"rot")
        assert (await stored.count(pages=False))[1] == [(0,)]
        counts, handed = await stored.count(pages=True)
        assert (counts["fragments_bad"], counts["blocks_degraded"], handed) == (1, 1, [(0, 1)])
        cluster.kill(cluster.topology.views[places[2]].node)
        counts, handed = await stored.count(pages=True)
        assert (counts["blocks_unknown"], handed) == (1, [(0, 1)]), "what is away may come back"


async def test_verify_counts_nothing_twice_when_another_runner_goes_on(tmp_path: Any) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        stored = Stored(cluster)
        for _ in range(3):
            await stored.store()
        plan = await stored.kind.plan({}, force=False)
        assert (plan.total, plan.unit) == (3, "blocks")

        class Dies(SoloJob):
            async def report(self, **what: Any) -> None:
                await super().report(**what)
                if self.reports == 2:
                    raise KeyboardInterrupt

        first = Dies(plan, {})
        with pytest.raises(KeyboardInterrupt):
            await stored.kind.run(first)
        stored.shards.asked.clear()
        second = SoloJob(plan, {}, cursor=first.cursor)
        await stored.kind.run(second)
        counts = json.loads(second.result)
        assert (counts["blocks_done"], counts["fragments_found"], second.done) == (3, 18, 3)
        assert len(stored.shards.asked) == 2, "the last block of one shard, and the empty one"


async def test_verify_is_refused_when_it_is_asked_for_something_else(tmp_path: Any) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        for wrong in ({"pages": "maybe"}, {"page": "yes"}):
            with pytest.raises(InvalidArgument):
                await Stored(cluster).kind.plan(wrong, force=False)
