"""Replicas that come, are promoted, are lost, are replaced and leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Conflict
from dwd.base.ids import NodeId, ReplicaId
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, Member, MemberRole, Role
from dwd.raft.transport import Absence
from tests.twins.raft_cluster import GROUP, TestCluster, TestNode, soon, until


def learner(node: TestNode, replica: int) -> Member:
    return Member(node=node.id, replica=ReplicaId(replica), role=MemberRole.LEARNER)


async def change(cluster: TestCluster, kind: ChangeKind, member: Member) -> Configuration:
    leader = await cluster.leader()
    return await leader.host.change(GROUP, ConfigurationChange(kind=kind, member=member), deadline=soon())


async def promote_when_ready(cluster: TestCluster, member: Member) -> Configuration:
    leader = await cluster.leader()
    await until(
        lambda: any(m.caught_up for m in leader.host.status(GROUP).members if m.member.replica == member.replica),
        "the learner to catch up",
    )
    return await change(cluster, ChangeKind.PROMOTE, member)


async def test_a_group_grows_from_one_to_three_when_learners_are_promoted(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, voters=1) as cluster:
        await cluster.put("a", "1")
        for number in (2, 3):
            node = cluster.node(number)
            member = learner(node, 200 + number)
            await node.host.create_replica(GROUP, member.replica)
            added = await change(cluster, ChangeKind.ADD_LEARNER, member)
            assert added.find(member.replica) == member
            await until(lambda node=node: node.value("a") == "1", "the learner to catch up")
            await promote_when_ready(cluster, member)
        leader = await cluster.leader()
        assert len(leader.host.status(GROUP).configuration.voters()) == 3
        await leader.crash()
        next_leader = await cluster.leader(other_than=leader)
        await next_leader.host.propose(GROUP, b"a=2", deadline=soon())


async def test_a_learner_serves_reads_when_it_has_caught_up(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 2, voters=1) as cluster:
        await cluster.put("a", "1")
        node = cluster.node(2)
        await node.host.create_replica(GROUP, ReplicaId(202))
        await change(cluster, ChangeKind.ADD_LEARNER, learner(node, 202))
        await until(lambda: node.host.status(GROUP).leader != 0, "it to hear of a leader")
        await node.host.read_index(GROUP, deadline=soon())
        assert node.value("a") == "1"


async def test_the_group_goes_on_without_a_member_when_it_was_removed(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        gone = (await cluster.followers())[0]
        member = gone.host.status(GROUP).configuration.on_node(gone.id)
        assert member is not None
        left = await change(cluster, ChangeKind.REMOVE, member)
        assert left.find(member.replica) is None
        await gone.host.drop_replica(GROUP)
        assert gone.host.groups() == ()
        assert GROUP not in gone.durable
        assert GROUP not in gone.disks
        await cluster.put("a", "2")


async def test_a_lost_replica_is_missed_and_replaced_when_its_disk_came_back_empty(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        lost = (await cluster.followers())[0]
        await lost.stop()
        lost.durable.clear()
        lost.disks.clear()
        await lost.start()
        await until(lambda: leader.host.missing(GROUP) == {lost.id: Absence.UNKNOWN}, "the loss to be noticed")
        await cluster.put("a", "2")
        member = learner(lost, 300)
        await lost.host.create_replica(GROUP, member.replica)
        replaced = await change(cluster, ChangeKind.REPLACE_LOST, member)
        assert [m.replica for m in replaced.members if m.node == lost.id] == [member.replica]
        await until(lambda: lost.value("a") == "2", "the new replica to catch up")
        await promote_when_ready(cluster, member)
        assert leader.host.missing(GROUP) == {}


async def test_a_database_without_its_log_is_a_lost_replica_when_the_node_starts(tmp_path: Path) -> None:
    """It may have voted and acknowledged what nobody can say any more: it never speaks under its old id again."""
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        lost = (await cluster.followers())[0]
        await lost.stop()
        lost.durable.clear()
        lost.disks[GROUP].values["stale"] = "1"
        await lost.start()
        assert lost.host.groups() == ()
        await until(lambda: leader.host.missing(GROUP) == {lost.id: Absence.UNKNOWN}, "the loss to be noticed")
        member = learner(lost, 300)
        await lost.host.create_replica(GROUP, member.replica)
        await change(cluster, ChangeKind.REPLACE_LOST, member)
        await until(lambda: lost.value("a") == "1", "the new replica to catch up")
        assert lost.value("stale") is None


async def test_a_group_is_not_begun_anew_when_its_database_is_there_and_its_log_is_not(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await cluster.put("a", "1")
        configuration = node.host.status(GROUP).configuration
        await node.stop()
        node.durable.clear()
        await node.start()
        with pytest.raises(Conflict) as caught:
            await node.host.bootstrap(GROUP, configuration)
        assert caught.value.code == "raft.log_missing"
        assert node.value("a") == "1"
        assert not node.durable


async def test_a_replica_is_no_longer_missed_when_it_speaks(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 2, voters=1) as cluster:
        node, leader = cluster.node(2), await cluster.leader()
        await change(cluster, ChangeKind.ADD_LEARNER, learner(node, 202))
        await until(lambda: leader.host.missing(GROUP) == {node.id: Absence.UNKNOWN}, "it to be missed")
        await node.host.create_replica(GROUP, ReplicaId(202))
        await until(lambda: leader.host.missing(GROUP) == {}, "it to speak")


async def test_nothing_is_missed_when_a_node_only_stops(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        follower = (await cluster.followers())[0]
        stopping = cluster.spawn(follower.host.stop())
        for turn in range(20):
            await cluster.put("a", str(turn))
            assert leader.host.missing(GROUP) == {}
        await stopping


async def test_an_unused_replica_makes_room_when_a_new_one_is_created(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 2, voters=1) as cluster:
        node = cluster.node(2)
        await node.host.create_replica(GROUP, ReplicaId(201))
        await node.host.create_replica(GROUP, ReplicaId(201))
        await node.host.create_replica(GROUP, ReplicaId(202))
        assert node.host.status(GROUP).replica == 202
        assert node.durable[GROUP].replica == 202


async def test_a_working_replica_is_kept_when_another_is_to_be_created(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        follower = (await cluster.followers())[0]
        await until(lambda: follower.value("a") == "1", "the follower to apply")
        for node in (await cluster.leader(), follower):
            with pytest.raises(Conflict):
                await node.host.create_replica(GROUP, ReplicaId(999))


async def test_members_tell_their_progress_when_the_leader_is_asked(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        status = leader.host.status(GROUP)
        assert status.role is Role.LEADER
        await until(
            lambda: all(m.match == leader.host.status(GROUP).last for m in leader.host.status(GROUP).members),
            "all to match",
        )
        states = {m.member.node: m.state for m in leader.host.status(GROUP).members}
        assert states == {n.id: "" if n is leader else "replicate" for n in cluster.nodes}
        assert isinstance(status.leader_node, int)
        assert NodeId(status.leader_node) == leader.id
