"""Compaction, snapshots to those who fell behind, restarts from what was durable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dwd.base.ids import GroupId, LogIndex, Term
from dwd.base.limits import CHUNK_BYTES
from dwd.base.units import MIB
from dwd.raft.core.types import Role
from dwd.raft.ports import Doubt
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, TestNode, soon, until

SMALL_LOG = replace(FAST, compaction_entries=40, trailing_entries=5, snapshot_chunk_seconds=2.0)


async def fill(cluster: TestCluster, count: int) -> None:
    for turn in range(count):
        await cluster.put(f"k{turn}", "v")


async def compacted(node: TestNode) -> None:
    await until(lambda: node.durable[GROUP].compacted.index > 20, f"node {node.id} to compact its log")


async def left_behind(cluster: TestCluster) -> TestNode:
    """A follower that was away while the log went past what the others keep of it."""
    behind = (await cluster.followers())[0]
    await behind.stop()
    await fill(cluster, 60)
    for node in cluster.nodes:
        if node is not behind:
            await compacted(node)
    return behind


async def test_the_log_is_cut_below_the_durable_state_when_it_has_grown(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG) as cluster:
        await fill(cluster, 60)
        for node in cluster.nodes:
            await compacted(node)
            status = node.host.status(GROUP)
            assert status.first > 20
            assert status.applied - status.first >= SMALL_LOG.trailing_entries - 1


async def test_the_log_is_kept_when_a_long_reader_holds_up_the_checkpoint(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1, options=SMALL_LOG) as cluster:
        await cluster.put("a", "1")
        cluster.node(1).machines[GROUP].reader_blocks = True
        await fill(cluster, 60)
        ticks = cluster.options.tick_ms / 1000
        limit = soon(30 * ticks)
        await until(lambda: soon(0) > limit, "housekeeping to have looked")
        assert cluster.node(1).durable[GROUP].compacted.index == 0
        assert cluster.node(1).host.status(GROUP).failed is None


async def test_a_quiet_group_is_cut_whole_when_it_pins_old_segments(tmp_path: Path) -> None:
    other = GroupId(2)
    async with TestCluster(tmp_path, 1, groups=(GROUP, other)) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1", other)
        node.log.pinned = (other,)
        await until(lambda: not node.durable[other].entries, "the pinning group to be compacted")
        assert node.durable[GROUP].entries
        await cluster.put("a", "2", other)


async def test_a_follower_catches_up_by_snapshot_when_the_log_no_longer_reaches_it(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG) as cluster:
        behind = await left_behind(cluster)
        await behind.start()
        await until(lambda: behind.value("k59") == "v", "it to catch up")
        assert behind.machines[GROUP].installed == 1
        await cluster.put("after", "1")
        await until(lambda: behind.value("after") == "1", "it to follow on by the log")
        assert not list((tmp_path / f"node-{behind.id}").iterdir())
        await behind.restart()
        await cluster.put("again", "1")
        await until(lambda: behind.value("again") == "1", "it to go on after a restart")


async def test_a_transfer_resumes_where_it_stopped_when_the_stream_breaks(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG, padding=5 * MIB) as cluster:
        behind = await left_behind(cluster)
        cluster.network.chunks_until_break = 3
        await behind.start()
        await until(lambda: behind.value("k59") == "v", "it to catch up")
        first, second, *_ = cluster.network.requests
        assert (first.offset, second.offset) == (0, 3 * CHUNK_BYTES)
        assert second.token != 0
        assert sum(node.machines[GROUP].copies for node in cluster.nodes) == 1


async def test_a_chunk_is_asked_for_again_when_its_checksum_fails(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG, padding=2 * MIB) as cluster:
        behind = await left_behind(cluster)
        cluster.network.corrupt_next_chunk = True
        await behind.start()
        await until(lambda: behind.value("k59") == "v", "it to catch up")
        assert len(cluster.network.requests) >= 2


async def test_nothing_acknowledged_is_lost_when_all_nodes_restart(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await fill(cluster, 20)
        for node in cluster.nodes:
            await node.crash()
        for node in cluster.nodes:
            await node.start()
        await cluster.put("after", "1")
        await until(lambda: all(node.value("k19") == "v" for node in cluster.nodes), "all to have everything")


async def test_the_log_is_reset_to_the_database_when_that_is_ahead(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await fill(cluster, 10)
        await node.stop()
        log = node.durable[GROUP]
        node.durable[GROUP] = replace(log, entries=log.entries[:4])
        position = node.disks[GROUP].position
        await node.start()
        assert node.durable[GROUP].compacted == position
        await cluster.put("after", "1")
        assert node.value("k9") == "v"


async def test_a_replica_is_quarantined_when_its_database_is_older_than_its_log(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG) as cluster:
        await fill(cluster, 60)
        follower = (await cluster.followers())[0]
        await compacted(follower)
        await follower.stop()
        follower.disks.clear()
        await follower.start()
        failed = follower.host.status(GROUP).failed
        assert failed is not None
        assert failed.code == "raft.machine_behind"
        leader = await cluster.leader()
        await until(lambda: follower.id in leader.host.missing(GROUP), "the leader to be told")


async def test_a_replica_is_discarded_when_its_log_is_corrupt(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        follower = (await cluster.followers())[0]
        await follower.stop()
        follower.durable[GROUP] = replace(follower.durable[GROUP], doubt=Doubt.CORRUPT)
        await follower.start()
        assert follower.host.groups() == ()
        leader = await cluster.leader()
        await until(lambda: follower.id in leader.host.missing(GROUP), "the leader to be told")


async def test_doubt_about_the_tail_ends_durably_when_the_leader_has_confirmed_it(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await fill(cluster, 10)
        follower = (await cluster.followers())[0]
        await follower.stop()
        log = follower.durable[GROUP]
        follower.durable[GROUP] = replace(log, entries=log.entries[:-1], doubt=Doubt.TAIL)
        await follower.start()
        await until(lambda: follower.durable[GROUP].doubt is Doubt.NONE, "the doubt to end")
        await cluster.put("after", "1")
        await until(lambda: follower.value("after") == "1", "it to follow")


async def test_bootstrap_changes_nothing_when_it_is_repeated(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1")
        before = node.host.status(GROUP)
        await node.host.bootstrap(GROUP, before.configuration)
        await node.restart()
        await node.host.bootstrap(GROUP, before.configuration)
        await until(lambda: node.host.status(GROUP).role is Role.LEADER, "it to lead again")
        assert node.value("a") == "1"
        assert node.host.status(GROUP).term >= Term(before.term)
        assert node.host.status(GROUP).last > LogIndex(0)
