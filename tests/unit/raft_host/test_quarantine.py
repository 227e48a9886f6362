"""A replica whose state is not trusted: votes, neither leads nor serves, and gets the leader's state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import NotLeader, SafetyRefused, Unavailable
from dwd.raft.core.types import Role
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, TestNode, soon, until

SMALL_LOG = replace(FAST, compaction_entries=40, trailing_entries=5, snapshot_chunk_seconds=2.0)


async def wrong_follower(cluster: TestCluster) -> TestNode:
    """A follower whose state differs from the others'."""
    await cluster.put("a", "1")
    node = (await cluster.followers())[0]
    await until(lambda: node.value("a") == "1", "the follower to apply")
    node.disks[GROUP].values["a"] = "flipped"
    return node


async def test_state_is_replaced_by_the_leaders_when_a_follower_is_quarantined(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        node = await wrong_follower(cluster)
        replica = node.host.status(GROUP).replica
        await node.host.quarantine(GROUP, "a row is not what was written")
        await until(lambda: node.host.status(GROUP).quarantined is None, "the re-seeding")
        assert node.value("a") == "1"
        assert node.machines[GROUP].installed == 1
        assert node.host.status(GROUP).replica == replica, "it is the same replica, with its vote"
        await cluster.put("b", "2")
        await until(lambda: node.value("b") == "2", "the replica to follow again")
        assert await node.host.read_index(GROUP, deadline=soon()) > 0


async def test_log_goes_on_when_entries_are_committed_while_it_is_quarantined(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        node = await wrong_follower(cluster)
        for other in cluster.nodes:
            if other is not node:
                other.machines[GROUP].gate.clear()
        await node.host.quarantine(GROUP, "wrong")
        waiting = [cluster.spawn(cluster.put(f"k{n}", "v")) for n in range(10)]
        applied = node.host.status(GROUP).applied
        await until(lambda: node.host.status(GROUP).commit >= applied + 10, "the commits")
        assert node.host.status(GROUP).applied == applied, "nothing is applied to a state nobody trusts"
        for other in cluster.nodes:
            other.machines[GROUP].gate.set()
        for caller in waiting:
            await caller
        await until(lambda: node.host.status(GROUP).quarantined is None, "the re-seeding")
        await until(lambda: node.value("k9") == "v", "the rest of the log")
        assert node.value("a") == "1"


async def test_install_resets_the_log_when_the_leader_compacted_past_it(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=SMALL_LOG) as cluster:
        node = await wrong_follower(cluster)
        await node.host.quarantine(GROUP, "wrong")
        await node.crash()
        for turn in range(60):
            await cluster.put(f"k{turn}", "v")
        await node.start()
        await until(lambda: node.host.status(GROUP).quarantined is None, "the re-seeding")
        await until(lambda: node.value("k59") == "v", "the replica to catch up")
        assert node.value("a") == "1"


async def test_it_neither_serves_nor_stands_when_it_restarts_in_quarantine(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        node = await wrong_follower(cluster)
        cluster.network.isolate(node.id)
        await node.host.quarantine(GROUP, "wrong")
        await node.restart()
        assert node.host.status(GROUP).quarantined == "wrong"
        assert not node.host.serves(GROUP)
        with pytest.raises(Unavailable, match="not trusted"):
            await node.host.read_index(GROUP, deadline=soon(0.2))
        with pytest.raises(NotLeader):
            await node.host.propose(GROUP, b"x=1", deadline=soon(0.2))
        limit = soon(100 * FAST.tick_ms / 1000)
        await until(lambda: soon(0) > limit, "many election timeouts to pass")
        assert node.host.status(GROUP).role is Role.FOLLOWER, "it does not even ask for votes"


async def test_its_vote_counts_when_the_leader_dies(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        node = await wrong_follower(cluster)
        leader = await cluster.leader()
        cluster.network.isolate(node.id)
        await node.host.quarantine(GROUP, "wrong")
        await leader.crash()
        cluster.network.heal()
        successor = await cluster.leader(other_than=leader)
        assert successor is not node, "the third voter leads, by this one's vote"
        await until(lambda: node.host.status(GROUP).quarantined is None, "the re-seeding by the new leader")
        await until(lambda: node.value("a") == "1", "the right state")


async def test_leader_steps_down_and_is_reseeded_when_it_is_quarantined(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        leader = await cluster.leader()
        leader.disks[GROUP].values["a"] = "flipped"
        await leader.host.quarantine(GROUP, "wrong")
        assert leader.host.status(GROUP).quarantined == "wrong"
        await cluster.leader(other_than=leader)
        await until(lambda: leader.host.status(GROUP).quarantined is None, "the re-seeding")
        assert leader.value("a") == "1"
        assert leader.host.status(GROUP).role is Role.FOLLOWER


async def test_quarantine_is_refused_when_there_is_no_other_voter(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        await cluster.put("a", "1")
        with pytest.raises(SafetyRefused):
            await cluster.node(1).host.quarantine(GROUP, "wrong")
        await cluster.put("b", "2")
