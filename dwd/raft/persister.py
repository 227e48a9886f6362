"""From many groups' effects to few writes of the node's log.

What is queued while `in_flight_max` writes are out joins the next one, so load makes writes larger, not more. A write
carries at most WRITE_BYTES_MAX (but one group's part is never split), and less than what the log's own queue takes is
out at a time.

A write that the log refuses (its disk is full, its queue is) is tried again, and with it all that was handed out after
it, in the old order, even what got through: so the log ends as if nothing had happened. Until then nothing after it is
reported durable, to the groups the disk is merely slow, and `refusal` says why nothing new should be begun.

Invariant: `done` callbacks run in the order of queueing, each after everything queued before it is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Busy, NoSpace
from dwd.base.ids import GroupId
from dwd.base.units import MIB
from dwd.raft.disk_pace import DiskPace
from dwd.raft.ports import LogStore, LogWrite
from dwd.raft.telemetry import PERSIST_SECONDS
from dwd.runtime.tasks import Tasks

WRITE_BYTES_MAX = 8 * MIB
IN_FLIGHT_BYTES_MAX = 16 * MIB
SPACE_RETRY_SECONDS = 0.5
BUSY_RETRY_SECONDS = 0.02

_log = structlog.get_logger("dwd.raft")


class _Fate(Enum):
    OPEN = "open"
    DURABLE = "durable"
    REFUSED = "refused"


class _Batch:
    __slots__ = ("bytes", "callbacks", "fate", "writes")

    def __init__(self) -> None:
        self.writes: list[LogWrite] = []
        self.callbacks: list[Callable[[], None]] = []
        self.bytes = 0
        self.fate = _Fate.OPEN


class Persister:
    """One a host. A failed write ends the task that made it: its owner learns of it through `tasks`. Groups that were
    told to wait by `admits` are stirred when there is room. `refusal` is set while the log's disk is full.
    """

    def __init__(
        self,
        log: LogStore,
        clock: Clock,
        tasks: Tasks,
        *,
        in_flight_max: int,
        stir: Callable[[GroupId], None],
        pace: DiskPace | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._tasks = tasks
        self._in_flight_max = in_flight_max
        self._stir = stir
        self._pace = pace
        self._starved: set[GroupId] = set()
        self._pending: deque[_Batch] = deque()
        self._in_flight: deque[_Batch] = deque()
        self._refused = False
        """A write in flight was refused: nothing is handed out until all of them have ended."""
        self._retry_at = float("-inf")
        self.refusal: NoSpace | None = None

    def queue(self, write: LogWrite | None, done: Callable[[], None]) -> None:
        """`done` is called once `write`, and all queued before, is durable; not at all if that fails."""
        if not self._pending or self._pending[-1].bytes >= WRITE_BYTES_MAX:
            self._pending.append(_Batch())
        batch = self._pending[-1]
        if write is not None:
            batch.writes.append(write)
            batch.bytes += sum(len(entry.payload) for entry in write.entries)
        batch.callbacks.append(done)

    def forget(self, group: GroupId) -> None:
        """The group's replica is gone: what was not handed to the log yet must not follow its removal there."""
        for batch in (*self._in_flight, *self._pending):
            batch.writes = [write for write in batch.writes if write.group != group]

    def admits(self, group: GroupId) -> bool:
        """Whether new proposals should go into the log now; else `group` is stirred when they should."""
        if self._has_room():
            return True
        self._starved.add(group)
        return False

    def flush(self) -> None:
        """Hand what is pending to the store, as far as it may take more. Called at every turn of the loop."""
        while self._pending and self._has_room() and self._clock.monotonic() >= self._retry_at:
            batch = self._pending.popleft()
            self._in_flight.append(batch)
            if batch.writes:
                self._write(batch)
            else:
                self._ended(batch, _Fate.DURABLE)

    def _has_room(self) -> bool:
        if self._refused or len(self._in_flight) >= self._in_flight_max:
            return False
        return sum(batch.bytes for batch in self._in_flight) < IN_FLIGHT_BYTES_MAX

    def _write(self, batch: _Batch) -> None:
        """The log takes it now, before this turn's messages are encoded: the disk works meanwhile."""
        began = self._clock.monotonic()
        try:
            written = self._log.write(batch.writes)
        except (NoSpace, Busy) as error:
            self._refuse(error)
            self._ended(batch, _Fate.REFUSED)
        else:
            task = self._tasks.spawn(self._written(batch, written, began), name="persist")
            task.add_done_callback(lambda _: written.close())  # had it been cancelled before it began

    async def _written(self, batch: _Batch, written: Coroutine[Any, Any, None], began: float) -> None:
        try:
            await written
        except (NoSpace, Busy) as error:
            self._refuse(error)
            self._ended(batch, _Fate.REFUSED)
            return
        now = self._clock.monotonic()
        PERSIST_SECONDS.record(now - began)
        if self._pace is not None:
            self._pace.note(now - began, now)
        self._ended(batch, _Fate.DURABLE)

    def _refuse(self, error: NoSpace | Busy) -> None:
        self._refused = True
        pause = BUSY_RETRY_SECONDS if isinstance(error, Busy) else SPACE_RETRY_SECONDS
        self._retry_at = self._clock.monotonic() + pause
        if isinstance(error, NoSpace) and self.refusal is None:
            self.refusal = error
            _log.error("the log's disk is full: nothing is written until there is space", error=error.message)

    def _ended(self, batch: _Batch, fate: _Fate) -> None:
        batch.fate = fate
        while self._in_flight and self._in_flight[0].fate is _Fate.DURABLE:
            first = self._in_flight.popleft()
            if first.writes and self.refusal is not None:
                self.refusal = None
                _log.info("the log's disk has space again")
            for done in first.callbacks:
                done()
        if self._refused and all(waiting.fate is not _Fate.OPEN for waiting in self._in_flight):
            self._take_back()
        starved, self._starved = self._starved, set()
        for group in starved:
            self._stir(group)
        self.flush()

    def _take_back(self) -> None:
        """Everything from the first refused write on is pending again."""
        for batch in self._in_flight:
            batch.fate = _Fate.OPEN
        self._pending.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        self._refused = False
