"""A disk that is full: writes are refused and said so, others take over, and all goes on when there is space again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import DwError, NoSpace, OutcomeUnknown
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, TestNode, soon, until


async def refused(node: TestNode, command: bytes = b"b=2") -> DwError:
    """What the caller of a proposal is told, within a second."""
    with pytest.raises(DwError) as caught:
        await node.host.propose(GROUP, command, deadline=soon(1.0))
    return caught.value


async def test_another_leads_and_the_full_one_follows_again_when_the_leaders_log_is_full(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        full = await cluster.leader()
        await cluster.put("a", "1")
        full.log.full = True
        assert isinstance(await refused(full), OutcomeUnknown)
        leader = await cluster.leader(other_than=full)
        await leader.host.propose(GROUP, b"c=3", deadline=soon())
        full.log.full = False
        await until(lambda: full.value("c") == "3", "the full node to catch up")
        assert full.value("b") == leader.value("b") == "2"
        assert not full.fatal


async def test_writes_are_refused_reads_answered_and_all_recovers_when_every_log_is_full(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        await cluster.put("a", "1")
        for node in cluster.nodes:
            node.log.full = True
        assert isinstance(await refused(leader), OutcomeUnknown)
        error = await refused(leader, b"c=3")
        assert isinstance(error, NoSpace)
        assert error.retryable
        assert error.code == "raft.no_space"
        await leader.host.read_index(GROUP, deadline=soon())
        for node in cluster.nodes:
            node.log.full = False
        await cluster.put("d", "4")
        await until(lambda: all(node.value("d") == "4" for node in cluster.nodes), "everyone to go on")
        assert leader.value("b") == "2"
        assert leader.value("c") is None
        assert not any(node.fatal for node in cluster.nodes)


async def test_another_leads_when_the_leaders_database_has_no_space(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3) as cluster:
        full = await cluster.leader()
        await cluster.put("a", "1")
        full.machines[GROUP].full = True
        assert isinstance(await refused(full), OutcomeUnknown)
        leader = await cluster.leader(other_than=full)
        await leader.host.propose(GROUP, b"c=3", deadline=soon())
        full.machines[GROUP].full = False
        await until(lambda: full.value("c") == "3", "the full node to apply what it has")
        assert full.value("b") == "2"
        assert not full.fatal


async def test_a_lone_node_refuses_and_recovers_when_its_database_has_no_space(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1) as cluster:
        node = await cluster.leader()
        await cluster.put("a", "1")
        node.machines[GROUP].full = True
        term = node.host.status(GROUP).term
        assert isinstance(await refused(node), OutcomeUnknown)
        assert isinstance(await refused(node, b"c=3"), NoSpace)
        node.machines[GROUP].full = False
        await until(lambda: node.value("b") == "2", "what was accepted to be applied")
        await cluster.put("d", "4")
        assert node.host.status(GROUP).term == term
        assert not node.fatal


async def test_the_log_is_cut_later_when_a_checkpoint_finds_no_space(tmp_path: Path) -> None:
    options = replace(FAST, compaction_entries=20, trailing_entries=5)
    async with TestCluster(tmp_path, 1, options=options) as cluster:
        node = await cluster.leader()
        machine = node.machines[GROUP]
        machine.checkpoint_full = True
        for number in range(40):
            await cluster.put("a", str(number))
        await until(lambda: machine.checkpoints > 0, "a checkpoint to be tried")
        await cluster.put("b", "1")
        assert node.host.status(GROUP).first == 1
        assert node.host.status(GROUP).failed is None
        assert not node.fatal
