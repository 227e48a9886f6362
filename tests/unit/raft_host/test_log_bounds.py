"""Soaks in small: a host on a real log, written to for long; what the log takes stays within its budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dwd.base.ids import GroupId, NodeId
from dwd.base.units import KIB
from dwd.raft.host import Host
from dwd.raft.log.bounds import parse_segment_name
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.raft.options import HostOptions
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.serial import ThreadLanes
from dwd.runtime.testing_files import MemoryFiles
from tests.twins.dict_machine import DictDisk, DictMachine
from tests.twins.memory_transport import MemoryNetwork, MemoryTransport
from tests.twins.raft_cluster import configuration, soon, until

DIRECTORY = Path("/data/log")
SEGMENT_BYTES = 128 * KIB
BUDGET_SEGMENTS = 4
BUSY = GroupId(1)
VALUE = "x" * 900
ROUND = 480
"""Writes: about as many bytes as the budget."""


class Bench:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = MemoryFiles()
        self.disks: dict[GroupId, DictDisk] = {}
        self.most = 0
        self.host: Host
        self.log: RaftLog

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Host]:
        options = RaftLogOptions(
            segment_bytes=SEGMENT_BYTES, budget_bytes=BUDGET_SEGMENTS * SEGMENT_BYTES, batch_bytes=64 * KIB,
            cache_bytes=64 * KIB,
        )  # fmt: skip
        self.log = await RaftLog.open(
            files=self.files, directory=DIRECTORY, rng=SystemRng(), on_fatal=lambda _: None, options=options
        )
        lanes = ThreadLanes(threads=2, name="test")
        self.host = Host(
            node=NodeId(1), log=self.log, transport=MemoryTransport(MemoryNetwork(), NodeId(1)),
            machines=self._machine, discard_machine=lambda group: None, snapshots=self.directory, lanes=lanes,
            clock=SystemClock(), rng=SystemRng(), on_fatal=lambda _: None,
            options=HostOptions(tick_ms=20, compaction_entries=400, trailing_entries=50),
        )  # fmt: skip
        try:
            await self.host.start()
            yield self.host
        finally:
            await self.host.stop()
            await lanes.close()
            await self.log.close()

    def _machine(self, group: GroupId) -> DictMachine:
        return DictMachine(self.disks.setdefault(group, DictDisk()))

    async def overwrite(self, count: int, *, at_once: int = 16) -> None:
        """One key, again and again; each round about as much as the budget, and then it must be kept once more."""
        for first in range(0, count, at_once):
            if first % ROUND == 0:
                await until(lambda: self.segments() <= BUDGET_SEGMENTS, "the log to be within its budget")
            await asyncio.gather(
                *(self.host.propose(BUSY, f"k={first + n}{VALUE}".encode(), deadline=soon()) for n in range(at_once))
            )
            self.most = max(self.most, self.segments())

    def segments(self) -> int:
        return sum(parse_segment_name(name) is not None for name in self.files.list(DIRECTORY))


async def test_the_log_stays_bounded_when_one_key_is_overwritten_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as host:
        await host.bootstrap(BUSY, configuration([1]))
        await until(lambda: host.leader_node(BUSY) == 1, "a leader")
        await bench.overwrite(6_000)
        written = 6_000 * len(VALUE)
        assert written > 10 * BUDGET_SEGMENTS * SEGMENT_BYTES
        assert bench.most <= 3 * BUDGET_SEGMENTS
        await until(lambda: bench.segments() <= BUDGET_SEGMENTS, "the log to be within its budget")
    async with bench.running() as host:
        assert host.status(BUSY).failed is None
        await until(lambda: bench.disks[BUSY].values["k"].startswith("5999"), "it to apply what is left")


async def test_quiet_groups_are_compacted_to_what_they_applied_when_one_of_two_hundred_is_busy(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    groups = [GroupId(number) for number in range(1, 201)]
    async with bench.running() as host:
        for group in groups:
            await host.bootstrap(group, configuration([1]))
        for group in groups:
            await until(lambda group=group: host.leader_node(group) == 1, "a leader")  # type: ignore[misc]
            _ = await host.propose(group, b"quiet=1", deadline=soon())
        await bench.overwrite(3 * ROUND)
        assert bench.most <= 3 * BUDGET_SEGMENTS
        await until(lambda: bench.segments() <= BUDGET_SEGMENTS, "the log to be within its budget")
        pinned = [group for group in groups if group != BUSY and host.status(group).log_bytes]
        assert not pinned, "what a quiet group holds lies in the oldest segments"
    async with bench.running() as host:
        assert all(host.status(group).failed is None for group in groups)
        for group in groups[::50]:
            await until(lambda group=group: host.leader_node(group) == 1, "a leader")  # type: ignore[misc]
            _ = await host.propose(group, b"after=1", deadline=soon())
            assert bench.disks[group].values["quiet"] == "1"
