"""Random lives of a Raft log with crashes at any moment: what comes back is a prefix of what was submitted that holds
all that was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dwd.base.errors import DwError
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.base.units import KIB
from dwd.raft.core.types import EMPTY_HARD_STATE, HardState
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog
from dwd.runtime.testing_files import FaultyFiles, MemoryFiles
from tests.property.raft_log.log_model import Change, Group, entry, position, state_after
from tests.twins.virtual_time import SeededRng

DIRECTORY = Path("/data/log")
OPTIONS = RaftLogOptions(segment_bytes=24 * KIB, budget_bytes=96 * KIB, cache_bytes=2 * KIB, batch_bytes=8 * KIB)


class Life:
    """One log, its model and its crashes."""

    def __init__(self, seed: int) -> None:
        self.rng = SeededRng(seed)
        self.memory = MemoryFiles()
        self.faulty = FaultyFiles(self.memory)
        self.changes: list[Change] = []
        self.acknowledged = 0
        self.compacted: dict[int, int] = {}
        """By replica: the highest index a compaction was asked for."""
        self.term = 1
        self.replicas = 100
        self.fatal: list[DwError] = []

    async def run(self, rounds: int) -> None:
        log = await self.open()
        for _ in range(rounds):
            if self.rng.below(8) == 0:
                self.faulty.steps = self.rng.below(12)
            try:
                await self.act(log)
                await self.check_read(log)
            except DwError:
                assert self.faulty.dead, "only a machine that stopped may fail"
            if self.faulty.dead or self.rng.below(12) == 0:
                await log.close()
                log = await self.crash()
        await log.close()

    async def open(self) -> RaftLog:
        return await RaftLog.open(
            files=self.faulty, directory=DIRECTORY, rng=self.rng, on_fatal=self.fatal.append, options=OPTIONS
        )

    async def act(self, log: RaftLog) -> None:
        """Several changes at once; all acknowledged if this returns."""
        choice = self.rng.below(20)
        groups = state_after(self.changes)
        if choice == 0 and groups:
            group = GroupId(sorted(groups)[self.rng.below(len(groups))])
            self.changes.append(group)
            await log.drop(group)
        elif choice < 4 and groups:
            group = GroupId(sorted(groups)[self.rng.below(len(groups))])
            index = self.rng.below(groups[group].last + 1)
            if index > groups[group].base:
                self.compacted[groups[group].replica] = max(self.compacted_to(groups[group]), index)
                await log.compact(group, position(index, groups[group].term_at(index)))
        else:
            batches = [[self.write() for _ in range(1 + self.rng.below(3))] for _ in range(1 + self.rng.below(3))]
            _ = await asyncio.gather(*(log.write(batch) for batch in batches))
        self.acknowledged = len(self.changes)

    def compacted_to(self, group: Group) -> int:
        return self.compacted.get(group.replica, 0)

    def write(self) -> LogWrite:
        groups = state_after(self.changes)
        group = GroupId(self.rng.below(4))
        known = groups.get(group)
        if known is None:
            self.replicas += 1
            known = Group(replica=self.replicas)
        choice = self.rng.below(10)
        reset = None
        first = known.last + 1
        if choice == 0:
            self.term += 1
            reset = position(known.last + self.rng.below(5), self.term)
            first = reset.index + 1
        elif choice < 3:
            self.term += 1
            least = max(self.compacted_to(known), known.base) + 1
            first = least + self.rng.below(max(1, known.last + 2 - least))
        sizes = [self.rng.below(400) for _ in range(self.rng.below(6))]
        confirmed = self.rng.below(6) == 0
        write = LogWrite(
            group=group,
            replica=ReplicaId(known.replica),
            hard_state=HardState(term=Term(self.term), vote=ReplicaId(3), commit=LogIndex(self.rng.below(50)))
            if not sizes or self.rng.below(2)
            else None,
            entries=tuple(entry(first + n, self.term, size) for n, size in enumerate(sizes)),
            reset=reset,
            tail_confirmed=confirmed,
        )
        self.changes.append(write)
        return write

    async def check_read(self, log: RaftLog) -> None:
        for group, known in state_after(self.changes).items():
            least = max(self.compacted_to(known), known.base) + 1
            if least > known.last:
                continue
            first = least + self.rng.below(known.last + 1 - least)
            got = await log.read(GroupId(group), LogIndex(first), LogIndex(known.last), self.rng.below(1500))
            assert list(got) == known.entries[first - known.base - 1 :][: len(got)]
            assert got

    async def crash(self) -> RaftLog:
        """Lose power, or only the process; perhaps again while recovering."""
        while True:
            if self.rng.below(3):
                self.memory.power_loss(self.rng)
            else:
                self.memory.process_crash()
            self.faulty = FaultyFiles(self.memory)
            if self.rng.below(3) == 0:
                self.faulty.steps = self.rng.below(8)
            with contextlib.suppress(DwError):
                log = await self.open()
                self.faulty.steps = None
                if not self.faulty.dead:
                    break
            assert self.faulty.dead
        self.adopt(log)
        return log

    def adopt(self, log: RaftLog) -> None:
        found = {group: log for group, log in log.recovered().items() if not only_suspected(log)}
        assert all(recovered.doubt is not Doubt.CORRUPT for recovered in found.values())
        for upto in range(len(self.changes), self.acknowledged - 1, -1):
            groups = state_after(self.changes[:upto])
            if groups.keys() == found.keys() and all(
                groups[group].matches(found[GroupId(group)], self.compacted_to(groups[group])) for group in groups
            ):
                break
        else:
            pytest.fail(f"recovered {found} is no prefix of {len(self.changes)} changes, {self.acknowledged} kept")
        self.changes = self.changes[:upto]
        self.acknowledged = upto


def only_suspected(log: RecoveredLog) -> bool:
    """Known by name only, from a torn batch in which it would have begun."""
    return (
        log.doubt is Doubt.TAIL and not log.entries and (log.hard_state, log.compacted.index) == (EMPTY_HARD_STATE, 0)
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(min_value=0, max_value=2**32))
def test_log_keeps_what_was_acknowledged_when_machines_crash(seed: int) -> None:
    asyncio.run(Life(seed).run(rounds=30))
