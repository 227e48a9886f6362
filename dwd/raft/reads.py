"""Linearizable reads: one confirmation of leadership for all that arrived before it began.

A read joins only a round that begins after it arrived, so it waits in `arrived` while `ROUNDS_MAX` rounds are out;
that is also what makes rounds few under load. A round that is never answered stops counting after `round_seconds`.
Source: Ongaro's thesis, 6.4.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable

from dwd.base.errors import Busy, DwError, Unavailable
from dwd.base.ids import GroupId, LogIndex
from dwd.raft.core.effects import ReadReady, ReadRefused
from dwd.raft.core.types import ReadId

ROUNDS_MAX = 2
BOOT_BITS = 31
COUNT_BITS = 32
"""A read id is the boot's random bits, then a counter: an answer to a read of an earlier life matches nothing."""


class _Read:
    __slots__ = ("deadline", "future")

    def __init__(self, deadline: float, future: asyncio.Future[LogIndex]) -> None:
        self.deadline = deadline
        self.future = future

    def fail(self, error: DwError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Reads:
    """All reads of one group on this node."""

    def __init__(self, group: GroupId, *, limit: int, boot: int, round_seconds: float) -> None:
        self._group = group
        self._limit = limit
        self._next = boot << COUNT_BITS
        self._round_seconds = round_seconds
        self._arrived: list[_Read] = []
        self._rounds: dict[ReadId, tuple[float, list[_Read]]] = {}
        self._applying: list[tuple[LogIndex, int, list[_Read]]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, deadline: float, future: asyncio.Future[LogIndex]) -> None:
        """Raises Busy."""
        if self._count >= self._limit:
            raise Busy("raft.reads_full", f"{self._limit} reads are waiting in group {self._group}", group=self._group)
        self._count += 1
        self._arrived.append(_Read(deadline, future))

    def waiting(self) -> bool:
        return bool(self._arrived)

    def await_applying(self) -> bool:
        """Whether some know their index, and the machine is not there yet."""
        return bool(self._applying)

    def begin_round(self, now: float) -> ReadId | None:
        """The id of a new round for all that arrived; None if enough rounds are out."""
        out = sum(1 for began, _ in self._rounds.values() if now - began < self._round_seconds)
        if out >= ROUNDS_MAX:
            return None
        self._next += 1
        read = ReadId(self._next)
        self._rounds[read] = (now, self._arrived)
        self._arrived = []
        return read

    def ready(self, answers: Iterable[ReadReady], applied: LogIndex) -> None:
        for answer in answers:
            found = self._rounds.pop(answer.read, None)
            if found is None:
                continue
            if answer.index <= applied:
                self._resolve(found[1], applied)
            else:
                heapq.heappush(self._applying, (answer.index, answer.read, found[1]))

    def refused(self, answers: Iterable[ReadRefused]) -> None:
        for answer in answers:
            found = self._rounds.pop(answer.read, None)
            if found is not None:
                self._fail(found[1], answer.error)

    def applied(self, index: LogIndex) -> None:
        while self._applying and self._applying[0][0] <= index:
            self._resolve(heapq.heappop(self._applying)[2], index)

    def overdue(self, now: float) -> None:
        """Resolve those whose deadline passed, and forget rounds that nobody waits for."""
        late = Unavailable(
            "raft.read_unconfirmed", "no leader confirmed in time that this read is up to date", group=self._group
        )
        batches = [self._arrived, *(reads for _, reads in self._rounds.values()), *(b[2] for b in self._applying)]
        for batch in batches:
            for read in batch:
                if read.deadline <= now:
                    read.fail(late)
            alive = [read for read in batch if not read.future.done()]
            self._count -= len(batch) - len(alive)
            batch[:] = alive
        self._rounds = {read: found for read, found in self._rounds.items() if found[1]}
        self._applying = [waiting for waiting in self._applying if waiting[2]]
        heapq.heapify(self._applying)

    def close(self, error: DwError) -> None:
        for batch in (self._arrived, *(b for _, b in self._rounds.values()), *(w[2] for w in self._applying)):
            self._fail(batch, error)
        self._arrived = []
        self._rounds.clear()
        self._applying.clear()

    def _resolve(self, reads: list[_Read], index: LogIndex) -> None:
        self._count -= len(reads)
        for read in reads:
            if not read.future.done():
                read.future.set_result(index)

    def _fail(self, reads: list[_Read], error: DwError) -> None:
        self._count -= len(reads)
        for read in reads:
            read.fail(error)
