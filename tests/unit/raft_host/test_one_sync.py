"""Work of many groups costs few syncs: what they write at the same time is one write of the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dwd.base.ids import GroupId
from tests.twins.raft_cluster import TestCluster, soon

GROUPS = tuple(GroupId(number) for number in range(1, 41))


async def test_many_groups_share_writes_of_the_log_when_they_commit_at_once(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 1, groups=GROUPS) as cluster:
        for group in GROUPS:
            await cluster.put("a", "1", group)
        node = cluster.node(1)
        node.log.open_gate.clear()
        proposals = [cluster.spawn(node.host.propose(group, b"a=2", deadline=soon())) for group in GROUPS]
        await asyncio.sleep(0)
        before = node.log.writes
        node.log.open_gate.set()
        await asyncio.gather(*proposals)
        assert node.log.writes - before <= 4
        assert all(node.value("a", group) == "2" for group in GROUPS)
