"""The log store in memory: durable when its write returns, which it may be told to hold back or to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dwd.base.errors import NoSpace, NotFound, StorageFailed
from dwd.base.ids import GroupId, LogIndex
from dwd.raft.core.types import EMPTY_HARD_STATE, EMPTY_SNAPSHOT, Entry, SnapshotMeta
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog


class MemoryLogStore:
    """`durable` outlives a host: give it to the next one to restart from."""

    def __init__(self, durable: dict[GroupId, RecoveredLog] | None = None) -> None:
        self.durable: dict[GroupId, RecoveredLog] = {} if durable is None else durable
        self.writes = 0
        self.delay_seconds = 0.0
        self.failing = False
        self.full = False
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.pinned: tuple[GroupId, ...] = ()
        self._turn = asyncio.Lock()
        self._found = dict(self.durable)

    def recovered(self) -> Mapping[GroupId, RecoveredLog]:
        return self._found

    def release_recovered(self) -> None:
        self._found = {}

    async def write(self, writes: Sequence[LogWrite]) -> None:
        async with self._turn:
            await self.open_gate.wait()
            await asyncio.sleep(self.delay_seconds)
            if self.failing:
                raise StorageFailed("test.sync", "told to fail")
            if self.full:
                raise NoSpace("test.full", "told to be full")
            self.writes += 1
            for write in writes:
                self._take(write)

    def _take(self, write: LogWrite) -> None:
        log = self.durable.get(write.group)
        if log is None or log.replica != write.replica:
            log = RecoveredLog(
                group=write.group, replica=write.replica, hard_state=EMPTY_HARD_STATE, compacted=EMPTY_SNAPSHOT,
                entries=(), doubt=Doubt.NONE, witness=write.witness,
            )  # fmt: skip
        if write.reset is not None:
            log = replace(log, compacted=write.reset, entries=())
        if write.entries:
            keep = write.entries[0].index - log.compacted.index - 1
            assert 0 <= keep <= len(log.entries), "a hole in the log"
            log = replace(log, entries=log.entries[:keep] + write.entries)
        if write.hard_state is not None:
            log = replace(log, hard_state=write.hard_state)
        if write.tail_confirmed:
            log = replace(log, doubt=Doubt.NONE)
        self.durable[write.group] = log

    async def read(self, group: GroupId, first: LogIndex, last: LogIndex, bytes_max: int) -> tuple[Entry, ...]:
        log = self.durable.get(group)
        if log is None or first <= log.compacted.index:
            raise NotFound("test.compacted", "gone")
        taken: list[Entry] = []
        for entry in log.entries[first - log.compacted.index - 1 : last - log.compacted.index]:
            bytes_max -= len(entry.payload)
            if taken and bytes_max < 0:
                break
            taken.append(entry)
        if not taken:
            raise NotFound("test.absent", "not there")
        return tuple(taken)

    async def compact(self, group: GroupId, position: SnapshotMeta) -> None:
        log = self.durable[group]
        self.durable[group] = replace(
            log, compacted=position, entries=tuple(e for e in log.entries if e.index > position.index)
        )

    def bytes_held(self, group: GroupId) -> int:
        log = self.durable.get(group)
        return 0 if log is None else sum(len(entry.payload) for entry in log.entries)

    def pinning(self) -> tuple[GroupId, ...]:
        return self.pinned

    async def drop(self, group: GroupId) -> None:
        self.durable.pop(group, None)

    async def close(self) -> None:
        return None
