"""A node that holds a witness: a log and a vote, nothing to serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import DwError
from dwd.base.ids import ReplicaId
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, Member, MemberRole, Role
from dwd.raft.host import Host
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, TestNode, configuration, soon, until

SMALL = replace(FAST, compaction_entries=20, trailing_entries=2)


def with_witness() -> Configuration:
    one, two, three = configuration([1, 2, 3]).members
    return Configuration(members=(one, two, replace(three, role=MemberRole.WITNESS)))


async def begin(cluster: TestCluster) -> None:
    for node in cluster.nodes:
        await node.host.bootstrap(GROUP, with_witness())


async def lead(cluster: TestCluster, node: TestNode) -> None:
    leader = await cluster.leader()
    if leader is not node:
        await leader.host.transfer(GROUP, node.id, deadline=soon())
    await until(lambda: cluster.leaders() == [node], "it to lead")


async def test_an_acknowledged_write_survives_when_its_only_other_copy_is_a_witnesss_log(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, voters=0) as cluster:
        await begin(cluster)
        one, two, witness = cluster.nodes
        await lead(cluster, one)
        await cluster.put("before", "1")
        await two.crash()
        await one.host.propose(GROUP, b"only=here", deadline=soon())
        await one.crash()
        await two.start()
        await until(lambda: cluster.leaders() == [two], "the other data voter to lead")
        await two.host.read_index(GROUP, deadline=soon())
        assert two.value("only") == "here"
        assert GROUP not in witness.disks
        await one.start()


async def test_a_witness_opens_no_database_and_serves_nothing_when_it_restarts(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, voters=0) as cluster:
        await begin(cluster)
        witness = cluster.node(3)
        await cluster.put("a", "1")
        await witness.restart()
        await cluster.put("b", "1")
        await until(lambda: witness.host.status(GROUP).applied > 2, "it to follow")
        assert GROUP not in witness.disks
        assert not witness.host.serves(GROUP)
        with pytest.raises(DwError) as refused:
            await witness.host.read_index(GROUP, deadline=soon())
        assert refused.value.code == "raft.witness"


async def test_a_witness_keeps_its_log_when_a_data_voter_lacks_it(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, voters=0, options=SMALL) as cluster:
        await begin(cluster)
        one, two, witness = cluster.nodes
        await lead(cluster, one)
        await until(lambda: two.host.status(GROUP).applied == one.host.status(GROUP).applied, "all to be there")
        await two.crash()
        for turn in range(60):
            await cluster.put(f"k{turn}", "1")
        await until(lambda: one.host.status(GROUP).first > 20, "the leader to compact")
        assert witness.host.status(GROUP).first < 10
        await two.start()
        await until(lambda: witness.host.status(GROUP).first > 20, "it to forget what two have")


async def test_a_witness_joins_without_a_transfer_when_the_log_is_cut(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, voters=2, options=SMALL) as cluster:
        for turn in range(60):
            await cluster.put(f"k{turn}", "1")
        leader = await cluster.leader()
        await until(lambda: leader.host.status(GROUP).first > 20, "the leader to compact")
        node = cluster.node(3)
        await node.host.create_replica(GROUP, ReplicaId(203), witness=True)
        member = Member(node=node.id, replica=ReplicaId(203), role=MemberRole.WITNESS)
        change = ConfigurationChange(kind=ChangeKind.ADD_WITNESS, member=member)
        after = await leader.host.change(GROUP, change, deadline=soon())
        assert {m.replica for m in after.voters()} == {101, 102, 203}
        await until(lambda: node.host.status(GROUP).applied == leader.host.status(GROUP).applied, "it to follow")
        follower = next(n for n in cluster.nodes[:2] if n is not leader)
        await follower.crash()
        await cluster.put("two of three", "1")
        await follower.start()
        await node.restart()
        assert node.host.status(GROUP).role is Role.FOLLOWER
        assert GROUP not in node.disks


async def test_the_group_stops_on_a_node_when_a_witness_is_added_as_a_learner(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 2, voters=1) as cluster:
        node = cluster.node(2)
        await node.host.create_replica(GROUP, ReplicaId(202), witness=True)
        member = Member(node=node.id, replica=ReplicaId(202), role=MemberRole.LEARNER)
        host: Host = (await cluster.leader()).host
        await host.change(GROUP, ConfigurationChange(kind=ChangeKind.ADD_LEARNER, member=member), deadline=soon())
        await until(lambda: node.host.status(GROUP).failed is not None, "it to stop")
