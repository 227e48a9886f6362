"""Compaction, snapshots to those who fell behind, restarts from what was durable."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import Conflict, NoSpace, PermissionDenied, StorageFailed
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.base.limits import CHUNK_BYTES
from dwd.base.units import MIB
from dwd.raft.core.types import ChangeKind, ConfigurationChange, Member, MemberRole, Role
from dwd.raft.options import HostOptions
from dwd.raft.ports import Doubt
from dwd.raft.transport import Absence
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
        opening, first, second, *_ = cluster.network.requests
        assert (opening.offset, opening.length, opening.token) == (0, 0, 0)
        assert (first.offset, second.offset) == (0, 3 * CHUNK_BYTES)
        assert first.token == second.token != 0
        assert sum(node.machines[GROUP].copies for node in cluster.nodes if node is not behind) == 1


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


async def test_a_replica_is_quarantined_and_replaced_when_its_log_is_corrupt(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        follower = (await cluster.followers())[0]
        old = follower.host.status(GROUP).replica
        await follower.stop()
        follower.durable[GROUP] = replace(follower.durable[GROUP], doubt=Doubt.CORRUPT)
        await follower.start()
        failed = follower.host.status(GROUP).failed
        assert failed is not None
        assert failed.code == "raft.log_corrupt"
        leader = await cluster.leader()
        await until(lambda: leader.host.missing(GROUP) == {follower.id: Absence.QUARANTINED}, "the leader to be told")
        with pytest.raises(Conflict):
            await follower.host.create_replica(GROUP, old)
        member = Member(node=follower.id, replica=ReplicaId(300), role=MemberRole.LEARNER)
        await follower.host.create_replica(GROUP, member.replica)
        change = ConfigurationChange(kind=ChangeKind.REPLACE_LOST, member=member)
        await leader.host.change(GROUP, change, deadline=soon())
        await until(lambda: follower.value("a") == "1", "the new replica to catch up")


async def test_what_a_corrupt_log_left_is_kept_when_there_is_no_other_copy(tmp_path: Path) -> None:
    """A flipped bit must not delete the only copy there is."""
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1")
        configuration = node.host.status(GROUP).configuration
        await node.stop()
        node.durable[GROUP] = replace(node.durable[GROUP], doubt=Doubt.CORRUPT)
        await node.start()
        await node.host.bootstrap(GROUP, configuration)
        assert node.host.status(GROUP).failed is not None
        assert node.value("a") == "1"
        assert node.durable[GROUP].entries


async def test_a_voter_that_just_restarted_is_kept_when_another_is_to_be_created(tmp_path: Path) -> None:
    """Its leader has had no time to speak yet."""
    async with TestCluster(tmp_path, 3, options=HostOptions(tick_ms=100)) as cluster:
        await cluster.put("a", "1")
        nodes = cluster.nodes
        await until(lambda: nodes[0].value("a") == "1", "it to apply what is to be kept")
        for node in nodes:
            await node.stop()
        await nodes[0].start()
        with pytest.raises(Conflict):
            await nodes[0].host.create_replica(GROUP, ReplicaId(999))
        assert nodes[0].value("a") == "1"


async def test_a_new_replica_is_seeded_when_a_transfer_to_its_predecessor_hangs(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=replace(SMALL_LOG, snapshot_chunk_seconds=600.0)) as cluster:
        await fill(cluster, 60)
        leader = await cluster.leader()
        follower = (await cluster.followers())[0]
        await compacted(leader)
        await follower.stop()
        follower.durable.clear()
        follower.disks.clear()
        await follower.start()
        cluster.network.hang_next_chunk = True
        for replica in (301, 302):
            member = Member(node=follower.id, replica=ReplicaId(replica), role=MemberRole.LEARNER)
            await cluster.network.handlers[follower.id].drop_replica(GROUP, ReplicaId(301))
            await follower.host.create_replica(GROUP, member.replica)
            change = ConfigurationChange(kind=ChangeKind.REPLACE_LOST, member=member)
            await leader.host.change(GROUP, change, deadline=soon())
            if replica == 301:
                await until(lambda: not cluster.network.hang_next_chunk, "a transfer to hang")
        await until(lambda: follower.value("k59") == "v", "the new replica to be seeded")


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


async def test_a_later_offer_is_taken_when_a_file_came_during_an_install(tmp_path: Path) -> None:
    """The file is of no use then; the core must not go on waiting for it."""
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1")
        replica = node.host._engine.replicas[GROUP]
        abandoned: list[bool] = []
        replica.snapshot_abandoned = lambda: abandoned.append(True)  # type: ignore[method-assign]
        replica.installs._held = deque()
        file = tmp_path / "fetched"
        file.write_bytes(b"x")
        replica.snapshot_fetched(replica.applier.machine.position(), file)
        replica.installs._held = None
        assert abandoned == [True]
        assert not file.exists()


async def test_one_copy_is_enough_when_the_log_grows_while_it_is_sent(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG) as cluster:
        behind = await left_behind(cluster)
        cluster.network.hang_next_chunk = True
        await behind.start()
        await until(lambda: behind.host.status(GROUP).snapshot is not None, "a transfer to begin")
        await fill(cluster, 150)
        await until(lambda: behind.value("k149") == "v", "the follower to catch up")
        assert [request.token for request in cluster.network.requests].count(0) == 1


async def test_a_follower_goes_on_when_the_senders_disk_or_admission_fails(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG) as cluster:
        behind = await left_behind(cluster)
        cluster.network.refusals = [
            StorageFailed("test.disk", "the sender's disk"),
            PermissionDenied("test.no", "not allowed"),
            NoSpace("test.full", "the sender's disk is full"),
        ]
        await behind.start()
        await until(lambda: behind.value("k59") == "v", "the follower to catch up")
        assert behind.fatal == []
        assert behind.host.status(GROUP).failed is None
