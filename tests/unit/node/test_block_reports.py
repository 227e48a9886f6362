"""A recount hands what it finds bad or missing to repair, and nothing else."""

from __future__ import annotations

from typing import Any

from dwd.base.ids import NodeId
from dwd.base.policy import Policy
from dwd.blocks.ports import Owner
from dwd.blocks.recount import Recount
from dwd.blocks.reports import Reports
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.node.block_reports import NodeBlockReports
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.memory_catalogue import MemoryCatalogue

HERE = NodeId(1)


class Counts:
    blocks = 1


class Meta:
    async def counts(self, *_: object, **__: object) -> Counts:
        return Counts()


async def test_recount_hands_bad_and_missing_fragments_to_repair(tmp_path: Any) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        topology, catalogue, found = NodeTopology(cluster.topology, HERE), MemoryCatalogue(), Reports()
        nothing: Any = None
        meta: Any = Meta()
        rows: Any = catalogue
        reports = NodeBlockReports(
            devices=nothing, local=nothing, walker=nothing, catalogue=rows, meta=meta, topology=topology,
            clock=cluster.clock,
            found=found, recount=Recount(topology=topology, fragments=cluster.router(HERE), clock=cluster.clock),
        )  # fmt: skip
        block = await cluster.stores[HERE].write(
            bytes(300_000), policy=Policy(profile="rs-4-2"), owner=Owner(bucket="b", key="k"), deadline=cluster.soon
        )
        catalogue.add(block)
        places = cluster.topology.layouts[-1].places(block.block, 6)

        async def count(*, pages: bool) -> list[tuple[int, ...]]:
            _ = [totals async for totals in reports.recount(verify_pages=pages)]
            return [tuple(sorted(report.indexes)) for report in found.take(10)]

        assert await count(pages=True) == []
        await cluster.device(places[0]).delete([FragmentKey(block.block, 0)])
        device = cluster.device(places[1])
        place = device.volumes.place_of(FragmentKey(block.block, 1))
        assert place is not None
        with device.volumes.policy.path(place.segment).open("r+b") as file:
            file.seek(place.offset + place.head + 100)
            file.write(b"rot")
        assert await count(pages=False) == [(0,)]
        assert await count(pages=True) == [(0, 1)]
        cluster.kill(cluster.topology.views[places[2]].node)
        assert await count(pages=True) == [(0, 1)], "what is away may come back"
