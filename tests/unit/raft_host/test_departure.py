"""A node that stops hands what it leads to others first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import OutcomeUnknown, Unavailable
from dwd.base.ids import GroupId
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, soon, until

OTHER = GroupId(2)


async def test_another_node_leads_already_when_the_leader_has_stopped(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=FAST) as cluster:
        leader = await cluster.leader()
        await cluster.put("a", "1")
        await leader.stop(hand_over=True)
        assert any(node.host.leads(GROUP) for node in cluster.nodes if node is not leader)
        await cluster.put("a", "2")


async def test_resting_groups_are_handed_over_when_the_leader_stops(tmp_path: Path) -> None:
    options = replace(FAST, hibernate_seconds=0.1)
    async with TestCluster(tmp_path, 3, options=options, groups=(GROUP, OTHER)) as cluster:
        await cluster.put("a", "1")
        await cluster.put("a", "1", OTHER)
        leader = await cluster.leader()
        await until(lambda: all(n.host.hibernates(g) for n in cluster.nodes for g in (GROUP, OTHER)), "all to rest")
        led = [group for group in (GROUP, OTHER) if leader.host.leads(group)]
        await leader.stop(hand_over=True)
        others = [node for node in cluster.nodes if node is not leader]
        assert all(any(node.host.leads(group) for node in others) for group in led)


async def test_nothing_is_handed_to_a_node_that_stops_too(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=FAST) as cluster:
        leader = await cluster.leader()
        going, staying = (node for node in cluster.nodes if node is not leader)
        going.host._engine.departing = True
        await until(
            lambda: any(p.reluctant for p in leader.host._engine.replicas[GROUP].core.status().peers),
            "the leader to hear of it",
        )
        await leader.stop(hand_over=True)
        assert staying.host.leads(GROUP)


async def test_stopping_ends_when_nobody_is_left_to_lead(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=replace(FAST, hand_over_seconds=0.5)) as cluster:
        leader = await cluster.leader()
        cluster.network.isolate(leader.id)
        async with asyncio.timeout(20):
            await leader.stop(hand_over=True)


async def test_proposals_that_wait_for_a_quorum_that_is_gone_fail_when_the_node_begins_to_stop(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("a", "1")
        for node in cluster.nodes:
            if node is not leader:
                await node.stop()
        proposed = cluster.spawn(leader.host.propose(GROUP, b"a=2", deadline=soon(60)))
        await until(lambda: len(leader.host._engine.replicas[GROUP].proposals) > 0, "the proposal to wait")
        leader.host.fail_waiting()
        async with asyncio.timeout(5):
            with pytest.raises((OutcomeUnknown, Unavailable)):
                await proposed
