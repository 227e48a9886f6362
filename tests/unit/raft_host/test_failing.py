"""What breaks stays where it broke."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dwd.base.errors import OutcomeUnknown, StorageFailed, Unavailable
from dwd.base.ids import GroupId, ReplicaId
from dwd.raft.transport import Absence
from tests.twins.raft_cluster import GROUP, TestCluster, soon, until

OTHER = GroupId(2)


async def test_only_that_group_stops_when_applying_fails(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1, groups=(GROUP, OTHER)) as cluster:
        node = cluster.node(1)
        await cluster.leader(GROUP)
        await cluster.leader(OTHER)
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await node.host.propose(GROUP, b"poison=1", deadline=soon())
        failed = node.host.status(GROUP).failed
        assert failed is not None
        assert failed.code == "test.poison"
        await until(lambda: node.machines[GROUP].closed, "the machine to be closed")
        with pytest.raises(Unavailable):
            await node.host.read_index(GROUP, deadline=soon())
        await cluster.put("a", "1", OTHER)
        assert node.value("a", OTHER) == "1"
        assert not node.fatal


async def test_another_node_leads_when_the_leaders_replica_breaks(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        broken = await cluster.leader()
        broken.machines[GROUP]._poison = "b"
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await broken.host.propose(GROUP, b"b=1", deadline=soon())
        leader = await cluster.leader(other_than=broken)
        await leader.host.propose(GROUP, b"c=1", deadline=soon())
        await until(lambda: leader.host.missing(GROUP) == {broken.id: Absence.QUARANTINED}, "the leader to be told")


async def test_the_node_must_stop_when_the_log_cannot_be_written(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("a", "1")
        leader.log.failing = True
        proposed = cluster.spawn(leader.host.propose(GROUP, b"a=2", deadline=soon()))
        await until(lambda: bool(leader.fatal), "the node to be told")
        await leader.stop()
        with pytest.raises(OutcomeUnknown):
            await proposed
        assert [type(error) for error in leader.fatal] == [StorageFailed]


async def test_the_node_must_stop_when_a_machines_storage_fails(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1")
        node.machines[GROUP].storage_failed = True
        proposed = cluster.spawn(node.host.propose(GROUP, b"a=2", deadline=soon()))
        await until(lambda: bool(node.fatal), "the node to be told")
        await node.stop()
        with pytest.raises(OutcomeUnknown):
            await proposed
        assert [type(error) for error in node.fatal] == [StorageFailed]


async def test_groups_share_one_write_when_both_are_busy(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1, groups=(GROUP, OTHER)) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1")
        await cluster.put("a", "1", OTHER)
        node.log.open_gate.clear()
        before = node.log.writes
        futures = [node.host.propose(group, b"x=1", deadline=soon()) for group in (GROUP, OTHER) for _ in range(20)]
        gathered = asyncio.gather(*futures)
        await asyncio.sleep(0)
        node.log.open_gate.set()
        await gathered
        assert node.log.writes - before <= 3


async def test_a_new_replica_lives_when_work_for_its_predecessor_fails(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1, voters=0) as cluster:
        host = cluster.node(1).host
        await host.create_replica(GROUP, ReplicaId(201))
        go = asyncio.Event()

        async def fails() -> None:
            _ = await go.wait()
            raise RuntimeError("its executor is closed")

        host._engine.spawn(GROUP, fails(), name="test")
        await host.create_replica(GROUP, ReplicaId(202))
        go.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert host.status(GROUP).failed is None
        assert host.status(GROUP).replica == 202
