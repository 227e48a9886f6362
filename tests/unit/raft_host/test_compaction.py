"""Compaction on demand, and what the log is rid of once the host has started."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Busy, NotFound
from dwd.base.ids import GroupId
from tests.twins.raft_cluster import GROUP, TestCluster, until


async def fill(cluster: TestCluster, count: int) -> None:
    for turn in range(count):
        await cluster.put(f"k{turn}", "v")


async def test_the_log_is_cut_to_what_is_applied_when_asked_and_nobody_lags(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        host = cluster.node(1).host
        await fill(cluster, 20)
        before = host.status(GROUP)
        report = await host.compact(GROUP)
        assert (report.applied, report.first) == (before.last, before.last + 1)
        assert report.entries_removed == before.last
        assert report.bytes_removed == before.log_bytes > 0
        assert host.status(GROUP).log_bytes == 0
        again = await host.compact(GROUP)
        assert (again.first, again.entries_removed, again.bytes_removed) == (report.first, 0, 0)
        await cluster.put("after", "1")


async def test_what_a_follower_that_answers_has_not_read_stays_when_compaction_is_asked_for(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await fill(cluster, 10)
        leader = await cluster.leader()
        slow, _ = await cluster.followers()
        slow.log.open_gate.clear()
        await fill(cluster, 10)
        match = min(m.match for m in leader.host.status(GROUP).members if m.member.node == slow.id)
        report = await leader.host.compact(GROUP)
        assert report.first == match + 1 < report.applied
        slow.log.open_gate.set()
        await until(lambda: slow.disks[GROUP].values == leader.disks[GROUP].values, "the slow one to catch up")
        assert slow.machines[GROUP].installed == 0


async def test_a_follower_that_is_away_holds_up_nothing_when_compaction_is_asked_for(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        await fill(cluster, 10)
        leader = await cluster.leader()
        away = (await cluster.followers())[0]
        await away.stop()
        await fill(cluster, 10)
        patience = 2 * cluster.options.election_ticks * cluster.options.tick_ms / 1000
        await until(lambda: leader.host.last_contact(away.id) > patience, "the leader to miss it")
        last = (await cluster.put("after", "1")).index
        assert (await leader.host.compact(GROUP)).first > last
        await away.start()
        await until(lambda: away.value("after") == "1", "it to catch up by a snapshot")
        assert away.machines[GROUP].installed == 1


async def test_nothing_is_cut_when_a_long_reader_holds_up_the_checkpoint_that_was_asked_for(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await fill(cluster, 10)
        node.machines[GROUP].reader_blocks = True
        with pytest.raises(Busy) as caught:
            await node.host.compact(GROUP)
        assert caught.value.code == "raft.checkpoint_held_up"
        assert node.host.status(GROUP).first == 1
        with pytest.raises(NotFound):
            await node.host.compact(GroupId(77))


async def test_the_entries_that_were_recovered_are_released_when_the_groups_run(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        await fill(cluster, 5)
        await node.stop()
        await node.start()
        assert node.log.recovered() == {}
        await cluster.put("after", "1")
