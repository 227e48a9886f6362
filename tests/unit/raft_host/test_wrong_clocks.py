"""Hosts whose nodes have wrong clocks: who leads, and which stamps get into the log. Source: raft.md section 4."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from dwd.base.errors import Busy, NotLeader, OutcomeUnknown
from dwd.base.ids import stamp_ms
from dwd.raft.core.types import Role
from dwd.runtime.clock import SystemClock
from tests.twins.raft_cluster import GROUP, TestCluster, TestNode, soon, until

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def newest_stamp_ms(node: TestNode) -> int:
    return stamp_ms(node.disks[GROUP].position.stamp)


async def all_know_their_clocks(cluster: TestCluster) -> None:
    await until(
        lambda: all(node.host.clock().known == len(cluster.nodes) for node in cluster.nodes), "all clocks to be known"
    )


@pytest.mark.parametrize("skew_ms", [DAY_MS, -DAY_MS, 2_000])
async def test_leadership_is_handed_over_and_no_stamp_is_wrong_when_the_leaders_clock_jumps(
    tmp_path: Path, skew_ms: int
) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await cluster.put("a", "1")
        old = await cluster.leader()
        await all_know_their_clocks(cluster)
        old.clock.offset_ms = skew_ms
        with suppress(Busy, NotLeader, OutcomeUnknown):
            await old.host.propose(GROUP, b"b=1", deadline=soon())  # before anybody was asked anew
        await until(lambda: old.host.status(GROUP).role is not Role.LEADER, "it to give leadership away")
        await cluster.put("c", "1")
        new = await cluster.leader()
        assert new is not old
        assert old.host.clock().off
        offset = old.host.clock().offset_seconds
        assert offset is not None
        assert abs(offset * 1000 - skew_ms) < 1_000
        assert abs(newest_stamp_ms(new) - SystemClock().unix_ms()) < HOUR_MS


async def test_nobody_with_a_wrong_clock_leads_when_the_leader_dies(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 5) as cluster:
        leader = await cluster.leader()
        wrong = (await cluster.followers())[:2]
        await all_know_their_clocks(cluster)
        for node in wrong:
            node.clock.offset_ms = DAY_MS
        await until(lambda: all(node.host.clock().off for node in wrong), "the two to notice")
        await leader.crash()
        new = await cluster.leader(other_than=leader)
        assert new not in wrong
        await cluster.put("a", "1")


async def test_a_node_may_lead_again_when_its_clock_is_right_again(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        node = await cluster.leader()
        await all_know_their_clocks(cluster)
        node.clock.offset_ms = DAY_MS
        other = await cluster.leader(other_than=node)
        await until(lambda: node.host.clock().off, "it to notice")
        node.clock.offset_ms = 0
        await until(lambda: not node.host.clock().off, "it to be trusted again")
        await until(lambda: other.host.status(GROUP).leader_node == other.id, "the other to lead still")
        assert await other.host.transfer(GROUP, node.id, deadline=soon()) == node.id


async def test_nothing_is_blocked_when_two_of_three_are_left_and_differ(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        dead, other = await cluster.followers()
        await dead.crash()
        other.clock.offset_ms = DAY_MS
        await leader.restart()
        await other.restart()
        await cluster.put("a", "1")
        assert not any(node.host.clock().off for node in (leader, other))


async def test_the_only_voter_goes_on_when_its_clock_jumps(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        await cluster.put("a", "1")
        node = await cluster.leader()
        node.clock.offset_ms = DAY_MS
        await cluster.put("a", "2")
        assert newest_stamp_ms(node) >= SystemClock().unix_ms() + DAY_MS - HOUR_MS
