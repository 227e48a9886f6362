"""A follower that was away for long catches up while the others go on being written to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from dwd.base.errors import DwError
from dwd.base.units import MIB
from tests.twins.raft_cluster import FAST, GROUP, TestCluster, TestNode, soon, until

OPTIONS = replace(FAST, compaction_entries=1_000, trailing_entries=300)
AT_ONCE = 256
ENTRIES = 4_096


async def write(cluster: TestCluster, count: int) -> None:
    """Over a few keys, so that the state stays small."""
    for first in range(0, count, AT_ONCE):
        await asyncio.gather(*(cluster.put(f"k{n % 100}", str(n)) for n in range(first, first + AT_ONCE)))


async def write_until(cluster: TestCluster, done: asyncio.Event) -> int:
    written = 0
    while not done.is_set():
        try:
            await write(cluster, AT_ONCE)
            written += AT_ONCE
        except DwError as error:
            if not error.retryable:
                raise
    return written


async def test_a_follower_catches_up_while_writes_go_on_when_it_was_away_for_long(tmp_path: Path) -> None:
    async with TestCluster(tmp_path, 3, options=OPTIONS, padding=2 * MIB) as cluster:
        await cluster.put("before", "1")
        away: TestNode = (await cluster.followers())[0]
        await away.stop()
        await write(cluster, ENTRIES)
        leader = await cluster.leader()
        others = [node for node in cluster.nodes if node is not away]
        await until(lambda: all(n.host.status(GROUP).first > ENTRIES // 2 for n in others), "logs to be cut")
        done = asyncio.Event()
        writing = cluster.spawn(write_until(cluster, done))
        await away.start()
        await until(lambda: away.machines[GROUP].installed > 0, "a snapshot to be installed")
        target = leader.host.status(GROUP).last
        await until(lambda: away.host.status(GROUP).applied >= target, "it to be where the leader was then")
        done.set()
        assert await writing > 0
        last = await cluster.put("after", "1")
        await until(lambda: away.value("after") == "1", "it to follow on", seconds=soon() - soon(0))
        assert last.index > target
