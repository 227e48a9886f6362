"""How many blocks are short of fragments, and how many one more loss would take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dwd.base.ids import GroupId, NodeId
from dwd.base.policy import Policy
from dwd.blocks import walker
from dwd.blocks.ports import Owner
from dwd.blocks.tally import Tally
from dwd.blocks.topology import DeviceHealth
from dwd.runtime.worker import Progress
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.memory_catalogue import MemoryCatalogue
from tests.twins.walking import counting_walker

OWNER = Owner(bucket="b", key="k")
BIG = os.urandom(200_001)
NODE = NodeId(1)


class Led(MemoryCatalogue):
    """Rows of one shard, led here or not."""

    def __init__(self) -> None:
        super().__init__()
        self.led: tuple[GroupId, ...] = (GroupId(1),)

    def groups(self) -> tuple[GroupId, ...]:
        return self.led


class Counting:
    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster, self.catalogue = cluster, Led()
        self.worker = counting_walker(self.catalogue, NodeTopology(cluster.topology, NODE), cluster.clock)

    async def put(self, data: bytes = BIG, profile: str = "rs-4-2") -> None:
        store = self.cluster.stores[NODE]
        self.catalogue.add(
            await store.write(data, policy=Policy(profile=profile), owner=OWNER, deadline=self.cluster.soon)
        )

    async def tally(self) -> Tally:
        for _ in range(50):
            if await self.worker.work() is Progress.IDLE:
                return self.worker.tally()
        raise AssertionError("never idle")


async def test_blocks_count_as_degraded_when_nodes_die_and_at_risk_when_nothing_is_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walker, "PAGE", 2)
    async with MemoryCluster(tmp_path) as cluster:
        counting = Counting(cluster)
        for _ in range(5):
            await counting.put()
        assert await counting.tally() == Tally()
        cluster.kill(NodeId(6))
        assert await counting.tally() == Tally(degraded=5, at_risk=0)
        cluster.kill(NodeId(5))
        assert await counting.tally() == Tally(degraded=5, at_risk=5)
        cluster.revive(NodeId(5))
        cluster.revive(NodeId(6))
        assert await counting.tally() == Tally()


async def test_blocks_on_loan_count_until_they_are_repaired(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        counting = Counting(cluster)
        cluster.kill(NodeId(6))
        await counting.put()
        cluster.revive(NodeId(6))
        assert await counting.tally() == Tally(degraded=1, at_risk=0)


async def test_a_node_of_two_devices_is_one_loss_when_it_holds_two_fragments(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path, nodes=3, devices=2) as cluster:
        counting = Counting(cluster)
        await counting.put()
        assert await counting.tally() == Tally()
        cluster.topology.set_health(cluster.devices_of(NodeId(2))[0], DeviceHealth.DOWN)
        assert await counting.tally() == Tally(degraded=1, at_risk=1)


async def test_copies_of_profile_none_are_no_risk_that_repair_could_lessen(tmp_path: Path) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        counting = Counting(cluster)
        await counting.put(profile="none")
        assert await counting.tally() == Tally()


async def test_a_count_begins_anew_when_leadership_was_lost_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walker, "PAGE", 1)
    async with MemoryCluster(tmp_path) as cluster:
        counting = Counting(cluster)
        for _ in range(3):
            await counting.put()
        cluster.kill(NodeId(6))
        assert await counting.worker.work() is Progress.BUSY
        counting.catalogue.led = ()
        assert await counting.tally() == Tally()
        counting.catalogue.rows.clear()
        counting.catalogue.led = (GroupId(1),)
        assert await counting.tally() == Tally()
