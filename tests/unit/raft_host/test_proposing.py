"""Proposals, from the caller's side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import Busy, DeadlineExceeded, InvalidArgument, NotFound, NotLeader, OutcomeUnknown, Unavailable
from dwd.base.ids import GroupId
from dwd.base.limits import COMMAND_BYTES_MAX
from dwd.raft.core.types import Role
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, soon, until


async def test_a_command_is_applied_everywhere_when_proposed_to_the_leader(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        first = await leader.host.propose(GROUP, b"a=1", deadline=soon())
        second = await leader.host.propose(GROUP, b"a=2", deadline=soon())
        assert (first.result, second.result) == (None, "1")
        assert second.index == first.index + 1
        await until(lambda: all(node.value("a") == "2" for node in cluster.nodes), "all to apply")


async def test_one_node_commits_alone_when_it_is_the_only_voter(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        await cluster.put("a", "1")
        assert cluster.node(1).value("a") == "1"


async def test_a_command_is_taken_as_soon_as_the_status_names_the_leader(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        host, limit = cluster.node(1).host, soon()
        while host.status(GROUP).role is not Role.LEADER and soon(0) < limit:  # noqa: ASYNC110 - in every loop round
            await asyncio.sleep(0)
        assert (await host.propose(GROUP, b"a=1", deadline=soon())).result is None


async def test_not_leader_names_the_leaders_node_when_a_follower_is_asked(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("a", "1")
        follower = next(node for node in cluster.nodes if node is not leader)
        await until(lambda: follower.host.status(GROUP).leader_node == leader.id, "the news of the leader")
        with pytest.raises(NotLeader) as refused:
            await follower.host.propose(GROUP, b"a=2", deadline=soon())
        assert refused.value.leader_node == leader.id


async def test_proposals_share_writes_and_batches_when_they_arrive_together(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("warm", "up")
        before = leader.log.writes
        await asyncio.gather(*(leader.host.propose(GROUP, b"k%d=1" % i, deadline=soon()) for i in range(200)))
        assert leader.log.writes - before <= 10
        assert max(leader.machines[GROUP].batches) >= 50


async def test_busy_when_more_proposals_wait_than_allowed(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=replace(FAST, proposals_max=4)) as cluster:
        leader = await cluster.leader()
        await cluster.put("warm", "up")
        leader.log.open_gate.clear()
        for follower in cluster.nodes:
            follower.log.open_gate.clear()
        waiting = [cluster.spawn(leader.host.propose(GROUP, b"a=1", deadline=soon())) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await leader.host.propose(GROUP, b"a=1", deadline=soon())
        for node in cluster.nodes:
            node.log.open_gate.set()
        assert len(await asyncio.gather(*waiting)) == 4


async def test_the_outcome_is_unknown_when_the_deadline_passes_without_a_quorum(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("warm", "up")
        cluster.network.isolate(leader.id)
        with pytest.raises(OutcomeUnknown):
            await leader.host.propose(GROUP, b"a=1", deadline=soon(0.5))


async def test_the_outcome_is_unknown_when_leadership_is_lost(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("warm", "up")
        cluster.network.isolate(leader.id)
        async with asyncio.timeout(10):
            with pytest.raises(OutcomeUnknown):
                await leader.host.propose(GROUP, b"a=1", deadline=soon(60))


async def test_nothing_is_proposed_when_the_deadline_has_passed(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        with pytest.raises(DeadlineExceeded):
            await leader.host.propose(GROUP, b"a=1", deadline=soon(-1))


async def test_a_command_is_refused_when_it_is_too_large(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        leader = await cluster.leader()
        with pytest.raises(InvalidArgument):
            await leader.host.propose(GROUP, bytes(COMMAND_BYTES_MAX + 1), deadline=soon())


async def test_not_found_when_the_group_does_not_live_here(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        with pytest.raises(NotFound):
            await cluster.node(1).host.propose(GroupId(7), b"a=1", deadline=soon())


async def test_every_future_resolves_when_the_host_stops(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("warm", "up")
        cluster.network.isolate(leader.id)
        proposals = [cluster.spawn(leader.host.propose(GROUP, b"a=1", deadline=soon(60))) for _ in range(50)]
        reads = [cluster.spawn(leader.host.read_index(GROUP, deadline=soon(60))) for _ in range(50)]
        await asyncio.sleep(0)
        await leader.host.stop()
        done, waiting = await asyncio.wait([*proposals, *reads], timeout=5)
        assert not waiting
        assert all(isinstance(future.exception(), OutcomeUnknown | Unavailable) for future in done)


async def test_a_cancelled_caller_leaves_nothing_behind_when_its_command_is_applied(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("warm", "up")
        task = cluster.spawn(leader.host.propose(GROUP, b"a=1", deadline=soon()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cluster.put("b", "1")
        assert not leader.fatal
