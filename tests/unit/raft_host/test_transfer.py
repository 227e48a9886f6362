"""Leadership handed on through the host, and several members changed at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import DeadlineExceeded, NotFound, NotLeader, SafetyRefused
from dwd.base.ids import NodeId, ReplicaId
from dwd.raft.core.types import ChangeKind, ConfigurationChange, JointChange, Member, MemberRole
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, configuration, soon, until


async def test_the_node_asked_for_leads_when_leadership_is_transferred(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        target = next(node for node in cluster.nodes if node is not leader)
        assert await leader.host.transfer(GROUP, target.id, deadline=soon()) == target.id
        assert cluster.leaders() == [target]
        await cluster.put("b", "1")


async def test_somebody_else_leads_when_no_node_is_named(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("a", "1")
        assert await leader.host.transfer(GROUP, None, deadline=soon()) != leader.id


async def test_no_proposal_is_lost_when_leadership_moves_under_load(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        writers = [cluster.spawn(cluster.put(f"k{turn}", "1")) for turn in range(50)]
        for _ in range(3):
            await (await cluster.leader()).host.transfer(GROUP, None, deadline=soon())
        await asyncio.gather(*writers)
        leader = await cluster.leader()
        await leader.host.read_index(GROUP, deadline=soon())
        assert all(leader.value(f"k{turn}") == "1" for turn in range(50))


async def test_a_transfer_is_refused_when_the_target_cannot_lead(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        followers = await cluster.followers()
        with pytest.raises(NotFound):
            await leader.host.transfer(GROUP, NodeId(77), deadline=soon())
        with pytest.raises(NotLeader):
            await followers[0].host.transfer(GROUP, None, deadline=soon())
        silent = followers[0]
        cluster.network.isolate(silent.id)
        await until(lambda: not _answers(leader.host.status(GROUP).members, silent.id), "it to be missed")
        with pytest.raises((SafetyRefused, DeadlineExceeded)):
            await leader.host.transfer(GROUP, silent.id, deadline=soon())
        await cluster.put("still", "here")
        cluster.network.heal()


async def test_a_transfer_waits_for_the_target_when_it_was_silent_just_now(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=replace(FAST, election_ticks=10)) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        target = next(node for node in cluster.nodes if node is not leader)
        cluster.network.isolate(target.id)
        await until(lambda: not _answers(leader.host.status(GROUP).members, target.id), "it to be missed")
        moving = cluster.spawn(leader.host.transfer(GROUP, target.id, deadline=soon()))
        await asyncio.sleep(0)
        cluster.network.heal()
        assert await moving == target.id


def _answers(members: object, node: NodeId) -> bool:
    return any(m.member.node == node and m.last_contact_seconds < 0.5 for m in members)  # type: ignore[attr-defined]


async def test_the_leader_leads_on_when_the_target_falls_silent(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=replace(FAST, election_ticks=10)) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        target = next(node for node in cluster.nodes if node is not leader)
        cluster.network.isolate(target.id)
        with pytest.raises((DeadlineExceeded, SafetyRefused)):
            await leader.host.transfer(GROUP, target.id, deadline=soon())
        await cluster.put("b", "1")
        assert cluster.leaders() == [leader]


async def test_two_voters_change_places_with_two_others_when_asked_at_once(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 5, voters=3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        for node in cluster.nodes[3:]:
            await node.host.create_replica(GROUP, ReplicaId(100 + node.id))
            added = ConfigurationChange(kind=ChangeKind.ADD_LEARNER, member=_learner(node.id))
            await leader.host.change(GROUP, added, deadline=soon())
        caught_up = lambda: sum(m.caught_up for m in leader.host.status(GROUP).members) == 4  # noqa: E731
        await until(caught_up, "learners to catch up")
        gone = [m for m in configuration([1, 2, 3]).members if m.node != leader.id]
        changes = [ConfigurationChange(kind=ChangeKind.PROMOTE, member=_learner(node.id)) for node in cluster.nodes[3:]]
        changes += [ConfigurationChange(kind=ChangeKind.REMOVE, member=member) for member in gone]
        after = await leader.host.change(GROUP, JointChange(changes=tuple(changes)), deadline=soon())
        assert not after.is_joint
        assert {m.replica for m in after.voters()} == {100 + leader.id, 104, 105}
        assert {m.replica for m in after.members} == {100 + leader.id, 104, 105}
        await cluster.put("b", "1")


def _learner(node: NodeId) -> Member:
    return Member(node=node, replica=ReplicaId(100 + node), role=MemberRole.LEARNER)
