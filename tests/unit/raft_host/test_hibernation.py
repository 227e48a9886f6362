"""Groups that rest: what makes them, what wakes them, and what must not happen while they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import Conflict
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId
from dwd.raft.transport import Beat, NapReply, Parcel
from tests.twins.memory_transport import MemoryTransport
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, TestNode, soon, until

RESTFUL = replace(FAST, hibernate_seconds=0.1)


class Sent:
    """What went over the network, beats apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parcels: list[Parcel] = []
        self.beats = 0
        real = MemoryTransport.send

        def send(transport: MemoryTransport, node: NodeId, group: GroupId, parcels: Sequence[Parcel]) -> None:
            beats = sum(isinstance(parcel, Beat) for parcel in parcels)
            self.beats += beats
            if not beats:
                self.parcels += parcels
            real(transport, node, group, parcels)

        monkeypatch.setattr(MemoryTransport, "send", send)

    def refusals(self) -> int:
        return sum(isinstance(parcel, NapReply) and not parcel.agreed for parcel in self.parcels)


def resting(cluster: TestCluster, group: GroupId = GROUP) -> list[TestNode]:
    return [node for node in cluster.nodes if node.host.hibernates(group)]


async def all_rest(cluster: TestCluster, count: int = 3) -> None:
    await until(lambda: len(resting(cluster)) == count, f"{count} replicas to rest")


async def cluster_at_rest(cluster: TestCluster) -> TestNode:
    """Its leader."""
    await cluster.put("a", "1")
    await all_rest(cluster)
    return await cluster.leader()


async def test_nothing_is_said_and_machines_close_when_a_group_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        term = leader.host.status(GROUP).term
        sent.parcels.clear()
        before = sent.beats
        await until(lambda: sent.beats > before + 200, "many heartbeat intervals to pass")
        assert not sent.parcels
        assert len(resting(cluster)) == 3
        assert [node.host.status(GROUP).term for node in cluster.nodes] == [term] * 3
        assert all(node.host.status(GROUP).hibernating for node in cluster.nodes)
        assert all(node.machines[GROUP].rested for node in cluster.nodes)


async def test_a_proposal_is_committed_when_the_group_rested(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        await leader.host.propose(GROUP, b"a=2", deadline=soon())
        assert not leader.host.hibernates(GROUP)
        await until(lambda: all(node.value("a") == "2" for node in cluster.nodes), "everybody to apply it")
        await all_rest(cluster)


async def test_a_followers_read_sees_what_was_written_when_the_group_rests(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        follower = next(node for node in cluster.nodes if node is not leader)
        index = await follower.host.read_index(GROUP, deadline=soon())
        assert index >= leader.host.status(GROUP).commit
        assert follower.value("a") == "1"


async def test_another_leader_is_elected_when_the_process_of_a_resting_one_dies(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        await leader.crash()
        rest = [node for node in cluster.nodes if node is not leader]
        await until(lambda: any(node.host.leads(GROUP) for node in rest), "another leader")


async def test_another_leader_is_elected_when_a_resting_one_is_cut_off(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        cluster.network.isolate(leader.id)
        rest = [node for node in cluster.nodes if node is not leader]
        await until(lambda: any(node.host.leads(GROUP) for node in rest), "another leader")
        await until(
            lambda: not leader.host.leads(GROUP), "the old one to step down, though nobody asked it for anything"
        )


async def test_a_follower_left_out_catches_up_when_its_node_returns(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        lost = next(node for node in cluster.nodes if node is not leader)
        cluster.network.isolate(lost.id)
        await cluster.put("a", "2")
        leader = await cluster.leader(other_than=lost)
        await until(lambda: leader.host.hibernates(GROUP), "the leader to rest without it")
        assert lost.value("a") == "1"
        cluster.network.heal()
        await until(lambda: lost.value("a") == "2", "the lost follower to catch up")
        await all_rest(cluster)


async def test_no_follower_is_left_behind_when_it_is_slow_but_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        slow = next(node for node in cluster.nodes if node is not leader)
        slow.machines[GROUP].gate.clear()
        await cluster.put("a", "2")
        await until(lambda: sent.refusals() >= 3, "the leader to ask, and the slow one to refuse")
        assert not leader.host.hibernates(GROUP)
        slow.machines[GROUP].gate.set()
        await all_rest(cluster)
        assert slow.value("a") == "2"


async def test_a_leader_is_elected_when_the_resting_ones_node_began_anew_before_anybody_noticed(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        await leader.restart()
        await until(lambda: bool(cluster.leaders()), "a leader")
        assert (await cluster.put("a", "3")).index


async def test_a_leader_is_elected_when_the_resting_ones_replica_is_gone_and_its_node_lives(tmp_path: Path) -> None:
    other = GroupId(2)
    async with TestCluster(tmp_path, 3, options=RESTFUL, groups=(GROUP, other)) as cluster:
        leader = await cluster_at_rest(cluster)
        await until(lambda: len(resting(cluster, other)) == 3, "the other group, for whose sake nodes keep in touch")
        await leader.host.drop_replica(GROUP)
        rest = [node for node in cluster.nodes if node is not leader]
        await until(lambda: any(node.host.leads(GROUP) for node in rest), "another leader")


async def test_a_resting_replica_is_not_discarded_when_another_is_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        follower = next(node for node in cluster.nodes if node is not leader)
        await until(lambda: sent.beats > 200, "it to be older than what counts as in use")
        with pytest.raises(Conflict):
            await follower.host.create_replica(GROUP, ReplicaId(999))


async def test_control_never_rests_and_neither_does_anything_when_it_is_switched_off(tmp_path: Path) -> None:
    first, second = tmp_path / "on", tmp_path / "off"
    async with (
        TestCluster(first, 3, options=RESTFUL, groups=(CONTROL_GROUP, GROUP)) as on,
        TestCluster(second, 1, options=replace(RESTFUL, hibernate_seconds=0)) as off,
    ):
        await all_rest(on)
        assert not resting(on, CONTROL_GROUP)
        assert not resting(off)


async def test_leadership_is_handed_over_when_the_group_rests(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=RESTFUL) as cluster:
        leader = await cluster_at_rest(cluster)
        taker = next(node for node in cluster.nodes if node is not leader)
        assert await leader.host.transfer(GROUP, taker.id, deadline=soon()) == taker.id


async def test_a_lone_voter_rests_and_serves_again_when_it_is_used(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1, options=RESTFUL) as cluster:
        await cluster.put("a", "1")
        await all_rest(cluster, 1)
        await cluster.put("a", "2")
        assert cluster.node(1).value("a") == "2"
