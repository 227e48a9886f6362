"""Elections, fail-over and linearizable reads."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from dwd.base.errors import Unavailable
from dwd.base.ids import NodeId, Term, hex_id
from dwd.raft.core.types import Role
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, soon, until


async def test_exactly_one_leader_when_five_nodes_start(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 5) as cluster:
        leader = await cluster.leader()
        await until(
            lambda: all(node.host.status(GROUP).leader_node == leader.id for node in cluster.nodes), "all to know it"
        )
        assert len(cluster.leaders()) == 1


async def test_the_leader_is_given_up_before_its_silence_counts_when_its_process_dies(tmp_path: Path) -> None:
    patience = 1.0
    options = replace(FAST, election_ticks=int(patience * 1000) // FAST.tick_ms)
    async with TestCluster(tmp_path, 5, options=options) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        others = [node for node in cluster.nodes if node is not leader]
        await until(lambda: all(n.host.leader_node(GROUP) == leader.id for n in others), "all to know the leader")
        began = soon(0)
        await leader.crash()
        await until(lambda: all(n.host.leader_node(GROUP) != leader.id for n in others), "all to give the leader up")
        assert soon(0) - began < 0.75 * patience
        next_leader = await cluster.leader(other_than=leader)
        await next_leader.host.propose(GROUP, b"a=2", deadline=soon())
        assert next_leader.value("a") == "2"


async def test_writes_go_on_when_two_of_five_are_cut_off(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 5) as cluster:
        leader = await cluster.leader()
        for node in (await cluster.followers())[:2]:
            cluster.network.isolate(node.id)
        await leader.host.propose(GROUP, b"a=1", deadline=soon())
        cluster.network.heal()
        await until(lambda: all(node.value("a") == "1" for node in cluster.nodes), "the two to catch up")


async def test_a_cut_off_leader_steps_down_and_follows_when_it_is_back(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        old = await cluster.leader()
        cluster.network.isolate(old.id)
        await until(lambda: old.host.status(GROUP).role is not Role.LEADER, "it to step down")
        new = await cluster.leader(other_than=old)
        await new.host.propose(GROUP, b"a=1", deadline=soon())
        cluster.network.heal()
        await until(lambda: old.value("a") == "1", "it to catch up")


async def test_a_read_sees_every_acknowledged_write_when_asked_of_any_node(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        for turn in range(20):
            await cluster.put("a", str(turn))
            for node in cluster.nodes:
                await node.host.read_index(GROUP, deadline=soon())
                assert node.value("a") == str(turn)


async def test_reads_share_rounds_when_they_arrive_together(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        for node in cluster.nodes:
            answers = await asyncio.gather(*(node.host.read_index(GROUP, deadline=soon()) for _ in range(300)))
            assert len(set(answers)) == 1


async def test_a_read_is_refused_when_its_node_is_cut_off(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        for node in (await cluster.leader(), (await cluster.followers())[0]):
            cluster.network.isolate(node.id)
            with pytest.raises(Unavailable):
                await node.host.read_index(GROUP, deadline=soon(0.2))
            cluster.network.heal()


async def test_a_read_waits_when_the_machine_has_not_applied_its_index(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        follower = (await cluster.followers())[0]
        await until(lambda: follower.value("a") == "1", "the follower to apply")
        follower.machines[GROUP].gate.clear()
        await cluster.put("a", "2")
        reading = cluster.spawn(follower.host.read_index(GROUP, deadline=soon()))
        await cluster.put("b", "1")
        assert not reading.done()
        follower.machines[GROUP].gate.set()
        await reading
        assert follower.value("a") == "2"


async def test_watchers_hear_of_every_leader_when_it_changes(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        heard: list[tuple[NodeId, Term, bool]] = []
        old = await cluster.leader()
        watcher = next(node for node in cluster.nodes if node is not old)
        await until(lambda: watcher.host.status(GROUP).leader_node == old.id, "the news")
        unwatch = watcher.host.watch(GROUP, lambda *news: heard.append(news))
        assert heard[0][0] == old.id
        await old.crash()
        new = await cluster.leader(other_than=old)
        await until(lambda: heard[-1][0] == new.id, "the next leader to be heard of")
        assert heard[-1][1] > heard[0][1]
        assert heard[-1][2] == (new is watcher)
        unwatch()


async def test_contact_is_counted_when_messages_come(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        other = next(node for node in cluster.nodes if node is not leader)
        await until(lambda: leader.host.last_contact(other.id) < 1.0, "contact")
        assert leader.host.last_contact(NodeId(99)) == float("inf")
        assert leader.host.last_contact(leader.id) == 0.0


async def test_log_names_the_leader_as_people_see_it_and_leaves_this_node_to_the_log_itself(tmp_path: Path) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as lines:
        async with TestCluster(tmp_path, 3) as cluster:
            leader = await cluster.leader()
    elected = [line for line in lines if line["event"] == "leadership changed"]
    assert hex_id(leader.id) in {line["leader_node"] for line in elected}
    assert not [line for line in lines if "node" in line]
